"""A cluster of three brokers. The first ones are also the controllers, of which most must not be stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from support.environment import setting
from support.servers import Server, free_ports, wait_for_kafka

from tidemark.local.programs import PROGRAMS, _kafka_java, kafka_properties
from tidemark.settings import settings

_CLUSTER = "TidemarkTestClusterOf3"  # Kafka's form of a UUID: 22 characters of Base64


@contextmanager
def three_brokers(home: Path, controllers: int = 1) -> Iterator[list[Server]]:
    """All of them answer, and the settings name them."""
    ports, voting = free_ports(3), free_ports(controllers)
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(voting, start=1))
    (program,) = [one for one in PROGRAMS if one.name == "kafka"]
    with ExitStack() as stack:
        brokers = []
        for number, port in enumerate(ports, start=1):
            of = settings().model_copy(
                update={"home": home / str(number), "kafka_port": port, "kafka_controller_port": voting[min(number, controllers) - 1]},
            )
            properties = home / f"{number}.properties"
            changed = {"node.id": str(number), "controller.quorum.voters": voters}
            if number > controllers:
                changed |= {"process.roles": "broker", "listeners": f"PLAINTEXT://127.0.0.1:{port}"}
            properties.write_text(_with(kafka_properties(of), changed))
            form = _kafka_java(of, "256m", "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties))
            run = _kafka_java(of, "384m", "kafka.Kafka", str(properties))
            subprocess.run(form, check=True, capture_output=True)
            broker = Server(replace(program, before=(), command=lambda _, run=run: run), home / f"{number}.log", of)
            stack.callback(broker.stop)
            broker.start()
            brokers.append(broker)
        with setting(home=str(home), kafka_bootstrap_servers=addresses) as of:
            wait_for_kafka(of, brokers[0].log, brokers[0])
            yield brokers


def _with(properties: str, changed: dict[str, str]) -> str:
    """The properties with other values."""
    lines = (line.partition("=") for line in properties.splitlines())
    return "".join(f"{name}={changed.get(name, value)}\n" for name, _, value in lines)
