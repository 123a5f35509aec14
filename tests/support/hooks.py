"""What Airflow's hooks make of connections: `python hooks.py MONGODB_CONNECTION...` prints it as JSON, a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any


def run_with_airflow(script: str, *arguments: str, **environment: str) -> Any:
    """The JSON that a script's last line is; the script runs with an Airflow home of its own, and its failure fails the test."""
    with tempfile.TemporaryDirectory(prefix="tidemark-airflow-") as home:
        mine = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        done = subprocess.run(
            [sys.executable, script, *arguments], env={**os.environ, **mine, **environment}, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def through_hooks(connections: Mapping[str, str]) -> dict[str, Any]:
    """By connection id: the URL and the options that the hook hands to MongoDB's driver, or the configuration of Kafka's producer.

    Connections are given as Airflow takes them from AIRFLOW_CONN_...
    """
    environment = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()}
    found: dict[str, Any] = run_with_airflow(__file__, *connections, **environment)
    return found


def main() -> None:
    from airflow.providers.apache.kafka.hooks.produce import KafkaProducerHook
    from airflow.providers.mongo.hooks.mongo import MongoHook

    found: dict[str, Any] = {}
    for name in sys.argv[1:]:
        if json.loads(os.environ[f"AIRFLOW_CONN_{name.upper()}"])["conn_type"] == "kafka":
            found[name] = KafkaProducerHook(name).get_connection(name).extra_dejson
            KafkaProducerHook(name).get_producer()
            continue
        hook = MongoHook(name)
        found[name] = {"url": hook.uri, "options": dict(hook.extras)}
        if hook.uri.startswith("mongodb://"):  # the other kind asks the network for its hosts
            hook.get_conn()
            hook.close()  # type: ignore[no-untyped-call]
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
