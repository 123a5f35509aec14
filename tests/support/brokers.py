"""A cluster of three brokers. The first one is also the controller, and must not be stopped."""

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
def three_brokers(home: Path) -> Iterator[list[Server]]:
    """All of them answer, and the settings name them."""
    controller, *ports = free_ports(4)
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    (program,) = [one for one in PROGRAMS if one.name == "kafka"]
    with ExitStack() as stack:
        brokers = []
        for number, port in enumerate(ports, start=1):
            of = settings().model_copy(
                update={"home": home / str(number), "kafka_port": port, "kafka_controller_port": controller},
            )
            properties = home / f"{number}.properties"
            properties.write_text(_of_node(number, kafka_properties(of)))
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


def _of_node(number: int, properties: str) -> str:
    """The properties of a broker beside the first one."""
    if number == 1:
        return properties
    changed = {"process.roles": "broker", "node.id": str(number)}
    lines = []
    for line in properties.splitlines():
        name, _, value = line.partition("=")
        if name == "listeners":
            value = value.partition(",")[0]  # without the controller's
        lines.append(f"{name}={changed.get(name, value)}")
    return "\n".join(lines) + "\n"
