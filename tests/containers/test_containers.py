"""The file's services, run by their own commands: PostgreSQL, Redis, a Spark cluster, the main job on all of it, and a backup that comes
back as it was. In this order: each test goes on where the one before has left it.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack, closing
from datetime import date

import httpx
import psycopg2
import pytest
from pymongo.errors import OperationFailure
from support.containers import Containers
from support.databases import connected
from support.names import NAMES
from support.stacks import Stack, until

from tidemark.ingest.generate import write
from tidemark.local import loopback
from tidemark.serving import publications, verifications
from tidemark.serving.database import connect, database_of
from tidemark.serving.schema import COLLECTIONS
from tidemark.serving.status import state
from tidemark.settings import CHECKOUT
from tidemark.settings.airflow_names import Dag
from tidemark.superset.client import Client, SupersetError

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="containers"), pytest.mark.timeout(1800)]

DAYS = ("2024-01-01", "2024-01-02")


@pytest.fixture(scope="module")
def stack(started: Containers) -> Stack:
    """What tests do with a stack, on this one."""
    return Stack(started.folder, started.settings)


def test_every_server_refuses_access_without_a_password(running: Containers) -> None:
    with connect(f"mongodb://{running.address('mongodb', 27017)}/?replicaSet=tidemark") as client, pytest.raises(OperationFailure):
        database_of(client, "tidemark").product.find_one()
    assert "NOAUTH" in _redis(running, "PING", password="")
    airflow = f"http://{running.address('airflow-api', 8080)}"
    with loopback.client(airflow, timeout=30) as http:
        assert http.get("/api/v2/dags").status_code == httpx.codes.UNAUTHORIZED
        assert http.get("/auth/token").status_code != httpx.codes.CREATED
        assert http.post("/auth/token", json={"username": "admin", "password": "admin"}).status_code == httpx.codes.UNAUTHORIZED
    for account in ("admin", "viewer"):
        with pytest.raises(SupersetError):
            Client(f"http://{running.address('superset', 8088)}", account, account)


def test_an_ingestion_through_all_services_gives_exact_reports(running: Containers, stack: Stack) -> None:
    categories, *products = write(300, len(DAYS), 5, running.volume("./catalogs"), date.fromisoformat(DAYS[0]))
    with stack.airflow() as airflow:
        until(lambda: airflow.has_dag(), "Airflow knows the DAG", running.logs)
    # As the workflow does it in containers.
    done = running.execute("airflow-scheduler", "python", str(CHECKOUT / "containers" / "main_job.py"), str(categories.parent))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:] + running.logs()
    for day, path in zip(DAYS, products, strict=True):
        stack.add_ingested(day, products=[path])
    stack.add_ingested(DAYS[-1], categories=[categories])
    assert stack.wrong() == []
    with connected() as database:
        served = publications.served(database)
        assert served > 0
        assert verifications.read(database, served)["drift"] == 0


def test_stream_and_batch_run_on_the_workers(running: Containers) -> None:
    with loopback.client(f"http://127.0.0.1:{running.own_port('spark-master', 'TIDEMARK_SPARK_MASTER_UI_PORT')}", timeout=30) as http:
        master = http.get("/json/").json()
    assert [worker["state"] for worker in master["workers"]] == ["ALIVE", "ALIVE"]
    assert [one["name"] for one in master["activeapps"]] == ["tidemark-speed"]
    assert {one["name"] for one in master["completedapps"]} == {"tidemark-batch"}
    assert all(one["state"] == "FINISHED" for one in master["completedapps"])
    # A batch job takes two cores, one of each.
    assert all("Asked to launch executor" in one.text() for one in running.running["spark-workers"])


def test_the_cluster_refuses_drivers_without_its_secret(running: Containers) -> None:
    script = "from tidemark.settings import settings; from tidemark.spark.session import session; session('other', settings(), memory='1g')"
    done = running.execute("speed", "env", "TIDEMARK_SPARK_SECRET=another", sys.executable, "-c", script)
    assert done.returncode != 0
    assert "All masters are unresponsive" in done.stderr, done.stderr[-3000:]


def test_airflow_and_superset_store_their_metadata_in_postgresql(running: Containers) -> None:
    runs = _rows(running, "airflow", "SELECT dag_id FROM dag_run WHERE state = 'success'")
    assert (NAMES.of(Dag.INGEST),) in runs
    dashboards = _rows(running, "superset", "SELECT slug FROM dashboards")
    assert len(dashboards) == len(list((CHECKOUT / "superset" / "assets" / "dashboards").glob("*.yaml")))


def test_charts_are_queried_with_the_report_account_and_cached_in_redis(running: Containers) -> None:
    viewer = Client(f"http://{running.address('superset', 8088)}", "viewer", running.variables["TIDEMARK_SUPERSET_VIEWER_PASSWORD"])
    charts = [one["id"] for one in viewer.get("/dashboard/tidemark-catalog/charts").json()["result"]]
    answers = [viewer.get(f"/chart/{number}/data/").json()["result"][0] for number in charts]
    assert all(one["status"] == "success" for one in answers)
    assert any(one["rowcount"] for one in answers)

    def kept() -> bool:
        viewer.get(f"/chart/{charts[0]}/data/")
        return "tidemark-data-" in _redis(running, "KEYS", "tidemark-data-*")

    until(kept, "an answer is in Redis, for two seconds", running.logs)


def test_browsers_use_tls_and_cookies_are_secure(running: Containers) -> None:
    with _through_proxy(running, 8088) as http:
        answer = http.get("/login/")
        assert answer.status_code == httpx.codes.OK
        cookies = answer.headers.get_list("Set-Cookie")
        assert cookies
        assert all("; Secure" in one for one in cookies), cookies
        assert http.get("/superset/welcome/").headers["Location"].startswith("/"), "to the address of the browser"
    with _through_proxy(running, 8080) as http:
        login = {"username": "admin", "password": running.variables["TIDEMARK_AIRFLOW_PASSWORD"]}
        token = http.post("/auth/token", json=login).json()["access_token"]
        assert http.get("/api/v2/dags", headers={"Authorization": f"Bearer {token}"}).status_code == httpx.codes.OK
        cookies = http.get("/api/v2/auth/logout", headers={"Cookie": f"_token={token}"}).headers.get_list("Set-Cookie")
        assert cookies
        assert all("; Secure" in one for one in cookies), cookies


def test_half_sent_headers_do_not_stop_superset(running: Containers) -> None:
    """They wait in the proxy, and not in the threads of Superset, which are fewer."""
    host, port = running.address("proxy", 8088).split(":")
    with ExitStack() as stack:
        for _ in range(90):
            plain = stack.enter_context(socket.create_connection((host, int(port)), 60))
            half = stack.enter_context(_trusting(running).wrap_socket(plain, server_hostname="localhost"))
            half.sendall(b"GET /login/ HTTP/1.1\r\nHost: localhost\r\nX-Half: ")
        with _through_proxy(running, 8088) as http:
            assert [http.get("/login/").status_code for _ in range(3)] == [httpx.codes.OK] * 3
        with loopback.client(f"http://{running.address('superset', 8088)}", timeout=30) as http:
            assert http.get("/health").status_code == httpx.codes.OK


def test_every_health_check_fails_when_its_server_is_down(running: Containers) -> None:
    cache = running.running["superset-cache"][0]
    assert cache.is_healthy()
    cache.stop()
    assert not cache.is_healthy()
    viewer = Client(f"http://{running.address('superset', 8088)}", "viewer", running.variables["TIDEMARK_SUPERSET_VIEWER_PASSWORD"])
    charts = viewer.get("/dashboard/tidemark-catalog/charts").json()["result"]
    assert viewer.get(f"/chart/{charts[0]['id']}/data/").json()["result"][0]["status"] == "success", "pages go on without the cache"
    cache.start()
    until(cache.is_healthy, "Redis is back")


def test_a_backup_is_restored_unchanged_into_empty_servers(running: Containers, stack: Stack) -> None:
    saved = running.run("backup", "save", "/backups/first")
    assert saved.returncode == 0, saved.stdout + saved.stderr
    before, documents = stack.served_reports(), _documents()
    assert running.run("backup", "save", "/backups/first").returncode == 1
    refused = running.run("backup", "restore", "/backups/first")
    assert refused.returncode == 1
    assert "is in use" in refused.stdout

    running.stop()
    running.empty("mongodb", "lake")
    running.start("prepare")
    restored = running.run("backup", "restore", "/backups/first")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert stack.served_reports() == before
    assert _documents() == documents
    assert stack.wrong() == []

    # And goes on: the stream from where it was, a night from the raw history as it was.
    running.start("speed", "spark-workers", "airflow-scheduler")
    with connected() as database:
        until(lambda: state(database)["stream"]["alive"], "the stream lives", running.logs)
    _night(running, "--mode", "full")
    with connected() as database:
        newest = max(one.number for one in publications.listing(database))
        assert verifications.read(database, newest)["drift"] == 0
    assert stack.served_reports() == before


def test_records_posted_to_the_api_are_served(running: Containers) -> None:
    running.start("api")
    category = {"id": 9_001, "category_name": "Posted"}
    with loopback.client(f"http://{running.address('api', 8000)}", timeout=60) as http:
        key = running.variables["TIDEMARK_API_KEY"]
        assert http.post("/Category", json=category, headers={"X-API-Key": key}).status_code == httpx.codes.CREATED
    with connected() as database:
        until(lambda: database.category.find_one(9_001), "the posted category is served", running.logs)


def test_lost_databases_of_airflow_and_superset_are_set_up_again(running: Containers) -> None:
    running.stop()
    running.empty("airflow-database", "superset-database")
    running.start("airflow-api", "dashboards")
    assert _rows(running, "airflow", "SELECT pool FROM slot_pool WHERE pool LIKE 'tidemark%'")
    assert len(_rows(running, "superset", "SELECT slug FROM dashboards")) == 4


def test_an_incomplete_backup_is_refused(running: Containers) -> None:
    folder = running.volume("./backups")
    (folder / "unfinished").mkdir()
    assert "no complete backup" in running.run("backup", "restore", "/backups/unfinished").stdout
    (folder / "first" / "mongodb" / "product.bson").write_bytes(b"")
    output = running.run("backup", "restore", "/backups/first")
    assert (output.returncode, "such as mongodb/product.bson" in output.stdout) == (1, True)


def _trusting(of: Containers) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(of.volume("certificate") / "certificate.pem"))


def _through_proxy(of: Containers, port: int) -> httpx.Client:
    """As a browser, which does not follow redirections here."""
    return httpx.Client(base_url=f"https://{of.address('proxy', port)}", verify=_trusting(of), trust_env=False, timeout=60)


def _redis(of: Containers, *words: str, password: str | None = None) -> str:
    (cache,) = of.running["superset-cache"]
    environment = cache.environment if password is None else {**cache.environment, "REDISCLI_AUTH": password}
    done = subprocess.run([*cache.health[: cache.health.index("-e")], *words], env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def _rows(of: Containers, name: str, query: str) -> list[tuple[str]]:
    host, port = of.address(f"{name}-database", 5432).split(":")
    password = of.variables[f"TIDEMARK_{name.upper()}_DATABASE_PASSWORD"]
    with closing(psycopg2.connect(host=host, port=port, user=name, password=password, dbname=name)) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        return list(cursor.fetchall())


def _night(of: Containers, *more: str) -> None:
    """A nightly batch as Airflow's tasks run its steps: in the scheduler's container, by what that is told."""
    done = of.execute("airflow-scheduler", "python", "-m", "tidemark.spark.batch", "nightly", *more)
    assert done.returncode == 0, done.stdout[-5000:] + of.logs()


def _documents() -> dict[str, list[str]]:
    """All documents, but for what says what somebody is doing, and the tags of products, which a restore replaces."""
    with connected() as database:
        return {
            one.name: sorted(map(repr, database[one.name].find({}, {"_tide.tag": False})))
            for one in COLLECTIONS
            if one.name not in ("state", "stream_minute")
        }
