"""The workflow for GitHub: what it runs exists, and is what the documentation and the services say. It is not run here."""

from __future__ import annotations

import re
from typing import Any

import yaml
from support import compose
from support.proxies import PACKAGES

from tidemark.settings import CHECKOUT

JOBS: dict[str, Any] = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yaml").read_text())["jobs"]
SERVICES = compose.services(compose.filled_example())


def commands(job: str) -> str:
    return "\n".join(step["run"] for step in JOBS[job]["steps"] if "run" in step)


def test_containers_are_built_started_and_do_the_main_job() -> None:
    run = commands("containers")
    order = ["docker compose build", "docker compose up -d --wait", "tidemark.ingest.generate", "containers/main_job.py", "curl"]
    assert [run.index(one) for one in order] == sorted(run.index(one) for one in order)
    assert (CHECKOUT / "containers" / "main_job.py").is_file()
    assert set(re.findall(r"docker compose (?:exec -T|cp) ([a-z-]+)", run)) == {"airflow-scheduler", "proxy"} <= set(SERVICES)
    assert {volume.target for volume in SERVICES["airflow-scheduler"].volumes} >= {"/catalogs"}
    assert set(re.findall(r"tidemark_([a-z-]+)", run)) <= {volume.source for one in SERVICES.values() for volume in one.volumes}
    (made,) = re.findall(r"mkdir -p (.+)", run)
    assert {f"./{name}" for name in made.split()} == {
        volume.source for one in SERVICES.values() for volume in one.volumes if volume.source.startswith(".")
    } - {"./containers"}


def test_published_ports_are_reached_with_the_certificate() -> None:
    run = commands("containers")
    (paths,) = re.findall(r"for path in (.+); do", run)
    assert sorted(path.partition("/")[0] for path in paths.split()) == sorted(
        port.rpartition(":")[0].rpartition(":")[2] for port in SERVICES["proxy"].definition["ports"]
    )


def test_no_proof_is_skipped_for_want_of_a_program() -> None:
    for job, needed in {"test": ["chromium", *PACKAGES], "soak": ["chromium", "postgresql", "redis-server", *PACKAGES]}.items():
        assert all(one in commands(job) for one in needed), job
    script = (CHECKOUT / ".ci" / "run").read_text()
    assert all(one in script for one in ["chromium", "postgresql", "redis-server", *PACKAGES])
