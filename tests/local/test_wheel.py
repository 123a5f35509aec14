"""The wheel, installed beside an Airflow that runs other teams' code: what it imports is its own, whatever else is on the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.names import NAMES
from support.places import Place

from tidemark.ingest import connections
from tidemark.ingest.generate import write
from tidemark.settings import CHECKOUT, settings
from tidemark.settings.airflow_names import Dag

COMMON_NAMES = ("settings", "catalog", "serving", "local", "ingest", "spark", "dags", "plugins", "policy", "choices", "dashboards")

LOAD = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow import plugins_manager
import tidemark.settings
bag = DagBag(sys.argv[1])
plugins = [plugin.name for plugin in plugins_manager._get_plugins()[0]]
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "plugins": plugins, "from": tidemark.settings.__file__}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the wheel, and with all packages of this one but the editable checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    build = [str(uv), "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", with_pip=False)
    made = folder / "environment" / "bin" / "python"
    subprocess.run([str(uv), "pip", "install", "--python", str(made), "--no-deps", str(wheel)], check=True, capture_output=True)
    # A folder that a .pth file names is searched for modules; the .pth files within it are not read.
    (packages,) = (folder / "environment" / "lib").glob("python*/site-packages")
    (packages / "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


@pytest.fixture
def other_modules(python: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of an Airflow whose path begins with modules that are named as ours once were."""
    hostile = tmp_path / "theirs"
    hostile.mkdir()
    for name in COMMON_NAMES:
        (hostile / f"{name}.py").write_text(f"raise AssertionError('{name} is another team's')\n")
    (bundle,) = (python.parent.parent / "lib").glob("python*/site-packages/tidemark/dags")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **inherited,
        "PYTHONPATH": str(hostile),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(bundle),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "TIDEMARK_INGEST_FROM": str(tmp_path),
        **connections.environment(settings()),
    }


def run(python: Path, script: str, environment: dict[str, str], *words: str) -> Any:
    """The JSON that is a script's last line."""
    done = subprocess.run([str(python), "-c", script, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_all_dags_load_beside_modules_with_common_names(python: Path, other_modules: dict[str, str]) -> None:
    found = run(python, LOAD, other_modules, other_modules["AIRFLOW__CORE__DAGS_FOLDER"])
    assert found["errors"] == {}
    assert set(found["dags"]) == {NAMES.of(dag) for dag in Dag}
    assert "tidemark" in found["plugins"]
    assert Path(found["from"]).is_relative_to(python.parent.parent)


JOB = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag
products, categories = sys.argv[2:]
conf = {"products": [products], "categories": [categories], "observed_at": ["2024-01-01"]}
run = DagBag(sys.argv[1]).dags[settings().airflow_names.of(Dag.INGEST)].test(run_conf=conf)
print(json.dumps({one.task_id: str(one.state) for one in run.get_task_instances()}))
"""


@pytest.mark.servers
@pytest.mark.airflow
@pytest.mark.soak(proof="stack")
def test_an_ingestion_is_served_from_the_wheel(place: Place, python: Path, other_modules: dict[str, str], tmp_path: Path) -> None:
    """A file through DAG `tidemark_ingest` and the stream, both of the wheel."""
    categories, products = write(200, 1, seed=5, out=tmp_path / "files", first_day=date(2024, 1, 1))
    subprocess.run([str(python), "-m", "airflow", "db", "migrate"], env=other_modules, check=True, capture_output=True)
    log = tmp_path / "stream.log"
    with log.open("wb") as output:
        stream = subprocess.Popen([str(python), "-m", "tidemark.spark.speed"], env=other_modules, stdout=output, stderr=output)
    try:
        states = run(python, JOB, other_modules, other_modules["AIRFLOW__CORE__DAGS_FOLDER"], str(products), str(categories))
    finally:
        stream.terminate()
        stream.wait(120)
    assert {states[task] for task in ("plan", "produce", "reconcile", "served")} == {"success"}, log.read_text()[-3000:]
    assert place.wrong() == []
    assert settings().database == place.database.name
