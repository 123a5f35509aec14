"""What the machine must have for the local stack, looked at before anything is started."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from settings import Settings

LEAST_JAVA = 17
LEAST_FREE_MB = 2_000

# Settings whose ports the local stack listens on, with the server that does.
_PORTS = {
    "kafka_port": "Kafka",
    "kafka_controller_port": "Kafka's controller",
    "mongodb_port": "MongoDB",
    "airflow_port": "Airflow",
    "api_port": "the HTTP API",
}


def java() -> str:
    """The java that everything runs with: JAVA_HOME's, else the PATH's."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def local_ports(of: Settings) -> dict[str, int]:
    """Port by setting of what this configuration starts locally."""
    external = {
        "kafka_port": of.kafka_bootstrap_servers,
        "kafka_controller_port": of.kafka_bootstrap_servers,
        "mongodb_port": of.mongodb_url,
    }
    return {name: getattr(of, name) for name in _PORTS if not external.get(name)}


def complaints(of: Settings) -> list[str]:
    """What stands in the way, each with what to do; empty where nothing does. For a stack that is not running yet."""
    found = [*_java_complaints(), *_disk_complaints(of.home)]
    ports = local_ports(of)
    for name, port in ports.items():
        same = [other for other, number in ports.items() if number == port and other < name]
        variable = f"TIDEMARK_{name.upper()}"
        if same:
            found.append(f"{variable} and TIDEMARK_{same[0].upper()} are both {port}: choose another port for one of them")
        elif _taken(port):
            found.append(f"port {port} ({_PORTS[name]}) is taken by another program: stop it, or choose another with {variable}=PORT")
    return found


def _java_complaints() -> list[str]:
    advice = f"install Java {LEAST_JAVA} or newer (apt install openjdk-17-jre-headless), or set JAVA_HOME"
    try:
        said = subprocess.run([java(), "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return [f"{java()} does not run: {advice}"]
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < LEAST_JAVA:
        return [f"{java()} is version {version[1] if version else 'unknown'}: {advice}"]
    return []


def _disk_complaints(home: Path) -> list[str]:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free // 2**20
    if free >= LEAST_FREE_MB:
        return []
    return [f"{free} MB are free in {there}, {LEAST_FREE_MB} are needed: free some, or set TIDEMARK_HOME to a folder elsewhere"]


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            there.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
