"""docker-compose.yaml against the Compose specification, the settings and .env.example; nothing is started."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from support import compose
from support.compose import NotSet
from support.wording import Wording

from tidemark.local import cluster
from tidemark.local.health import CHECKS, PARTS
from tidemark.local.programs import PROGRAMS, superset_environment
from tidemark.settings import CHECKOUT, Settings
from tidemark.settings.airflow_names import Dag

PROFILES = ("one", "several")
SERVICES = compose.services(compose.filled_example())
OWN_SERVICES = {name: one for name, one in SERVICES.items() if one.dockerfile and one.dockerfile.name == "tidemark.Dockerfile"}
SUPERSETS = {name: one for name, one in SERVICES.items() if one.image and name not in OWN_SERVICES}

# Settings by which services find each other: no default fits where each has an address of its own.
ADDRESSES = {
    "kafka_bootstrap_servers", "mongodb_url", "batch_mongodb_url", "spark_master", "airflow_database_url", "kafka_host", "kafka_advertised",
    "mongodb_advertised", "airflow_host", "airflow_url", "airflow_public_url", "superset_public_url", "spark_host", "speed_metrics_host",
    "api_host", "api_trusted_proxies", "airflow_trusted_proxies", "certificates",
}  # fmt: skip
# Of the dashboards', which Superset's image is told by names of its own.
SUPERSET_NAMES = {
    "superset_password", "superset_viewer_password", "superset_secret_key", "superset_database_url", "superset_cache_url",
    "superset_mongodb_url", "superset_host", "superset_port", "superset_live_seconds", "superset_query_seconds", "superset_workers",
    "superset_pictures_from",
}  # fmt: skip
# Of a Kafka that somebody else runs, while the compose file brings its own.
OTHER_KAFKA = {"kafka_password", "batch_kafka_password", "kafka_key_password"}


def test_it_conforms_to_the_compose_specification() -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec", str(compose.FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(compose.secrets()))
def test_a_missing_secret_is_named_and_nothing_starts(name: str, wording: Wording) -> None:
    with pytest.raises(NotSet) as refused:
        compose.services({**compose.filled_example(), name: ""})
    assert str(refused.value).startswith(f"{name}: ")
    wording.check(str(refused.value))


def test_without_a_profile_no_service_starts(wording: Wording) -> None:
    with pytest.raises(NotSet) as refused:
        compose.services({**compose.filled_example(), "COMPOSE_PROFILES": ""})
    wording.check(str(refused.value))


def test_the_example_documents_exactly_the_variables_in_use() -> None:
    assert set(compose.example()) == set(compose.variables())
    lines = compose.EXAMPLE.read_text().splitlines()
    for name in compose.example():
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{name}="))
        before = lines[at - 1] if lines[at - 1].startswith("#") else lines[at - 2]
        assert re.match(r"# \w.{10}", before), name


def test_secrets_have_no_default_and_other_variables_default_to_the_example() -> None:
    ways = compose.variables()
    assert {name for name, how in ways.items() if how == {"?"}} == compose.secrets() | {"COMPOSE_PROFILES"}
    assert all(how == {"-"} for name, how in ways.items() if name not in compose.secrets() | {"COMPOSE_PROFILES"})
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", compose.FILE.read_text()))
    assert defaults == {name: value for name, value in compose.example().items() if name in defaults}


def test_the_command_that_creates_env_fills_in_every_secret(tmp_path: Path) -> None:
    (line,) = re.findall(r"^#   (awk .*) > \.env", compose.EXAMPLE.read_text(), re.MULTILINE)
    done = subprocess.run(["sh", "-c", line], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    made = dict(text.split("=", 1) for text in done.stdout.splitlines() if re.match(r"\w+=", text))
    found = [made[name] for name in compose.secrets()]
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in found)
    assert len(set(found)) == len(found)
    assert made.keys() == compose.example().keys()


def test_every_variable_passed_is_a_setting() -> None:
    known = {f"TIDEMARK_{name.upper()}" for name in Settings.model_fields}
    for name, service in OWN_SERVICES.items():
        assert set(service.passed) <= known, name
    superset_names = {*superset_environment(Settings()), *("PYTHONPATH",)}
    for name, service in SUPERSETS.items():
        assert set(service.passed) <= superset_names, name
        assert superset_names <= {*service.passed, *service.image.environment}, name


def test_every_setting_that_a_service_requires_is_passed() -> None:
    passed = {name.removeprefix("TIDEMARK_").lower() for service in OWN_SERVICES.values() for name in service.passed}
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert (secret | ADDRESSES) - SUPERSET_NAMES - OTHER_KAFKA <= passed
    # What a variable of .env sets is passed on, each by its own name.
    ours = {name.removeprefix("TIDEMARK_").lower() for name in compose.example()} & set(Settings.model_fields) - SUPERSET_NAMES
    assert ours <= passed | {"mongodb_cache_gb"}


def test_every_value_passed_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in OWN_SERVICES.values():
        with monkeypatch.context() as patch:
            for name, value in service.passed.items():
                patch.setenv(name, value)
            read = Settings()
        for name, value in service.passed.items():
            field = name.removeprefix("TIDEMARK_").lower()
            assert value == "" or field in read.model_fields_set, (service.name, name)


def test_each_service_has_a_health_check_or_ends_and_has_limits() -> None:
    for name, service in SERVICES.items():
        assert bool(service.health) != service.ends, name
        assert service.definition["restart"] == ("unless-stopped" if service.health else "no" if name == "backup" else "on-failure")
        limits = service.definition["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        assert service.definition["logging"]["options"]["max-size"], name


def test_services_wait_for_healthy_or_completed_dependencies() -> None:
    for service in SERVICES.values():
        for name, condition in service.needs.items():
            expected = "service_completed_successfully" if SERVICES[name].ends else "service_healthy"
            assert condition == expected, (service.name, name)


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_contains_the_dependencies_of_its_services(profile: str) -> None:
    there = compose.of_profile(profile, compose.filled_example())
    assert {need for service in there.values() for need in service.needs} <= set(there)
    workers = [one for name, one in there.items() if name.startswith("spark-worker")]
    assert len(workers) == 1
    assert int(workers[0].definition["deploy"].get("replicas", 1)) == {"one": 1, "several": 2}[profile]


def test_workers_have_the_resources_of_the_stream_and_a_batch_job() -> None:
    example = compose.example()
    assert int(example["TIDEMARK_SPARK_WORKER_CORES"]) >= int(example["TIDEMARK_SPEED_CORES"]) + int(example["TIDEMARK_BATCH_CORES"])


def test_commands_and_health_checks_exist() -> None:
    programs = {program.name for program in (*PROGRAMS, *cluster.PROGRAMS)}
    launched = {name: service for name, service in OWN_SERVICES.items() if name != "backup"}
    for name, service in launched.items():
        assert service.command[:3] == ["python", "-m", "tidemark.local.launch"], name
        assert service.command[3] in programs
        assert service.ends or service.health[:3] == ["python", "-m", "tidemark.local.health"], name
        assert service.ends or service.health[3] in {**CHECKS, **PARTS}
        assert service.ends or service.health[4:] == ["--end-after", "600"], "Docker restarts no unhealthy container"
    # What is a server of its own image, and what Superset's image runs, is no program of another.
    run = {service.command[3] for service in launched.values()}
    assert {program.name for program in PROGRAMS} - run == {"mongodb", "superset", "dashboards", "warm"}
    for name, service in SUPERSETS.items():
        assert service.command[0] in ("python", "gunicorn"), name
        modules = [word.removeprefix("python:") for word in (*service.command, *service.health) if "tidemark." in word]
        assert modules, name
        assert all(find_spec(module) for module in modules), modules


def test_a_dependent_service_waits_for_each_one_that_ends() -> None:
    """`docker compose up --wait` takes the end of a container for a failure, unless another one depends on it."""
    ending = {name for name, service in SERVICES.items() if service.ends}
    waited = {
        name
        for service in SERVICES.values()
        for name, how in service.definition.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    profiles = {name for name in ending if SERVICES[name].definition.get("profiles")}
    assert ending - profiles == waited


def test_only_named_volumes_are_persistent() -> None:
    volumes = yaml.safe_load(compose.FILE.read_text())["volumes"]
    used = [volume for service in SERVICES.values() for volume in service.volumes]
    assert {volume.source for volume in used if not volume.source.startswith(".")} == set(volumes)
    assert {volume.source for volume in used if volume.source.startswith(".")} == {
        *("./catalogs", "./containers", "./backups", "./certificates")
    }


def test_only_the_proxy_publishes_ports_on_loopback_by_default() -> None:
    published = {name: one.definition["ports"] for name, one in SERVICES.items() if "ports" in one.definition}
    assert published == {"proxy": ["127.0.0.1:8080:8080", "127.0.0.1:8088:8088", "127.0.0.1:8000:8000"]}
    chosen = {"PUBLISH": "0.0.0.0", "PUBLISH_AIRFLOW": "443", "PUBLISH_SUPERSET": "444", "PUBLISH_API": "445"}
    services = compose.services({**compose.filled_example(), **{f"TIDEMARK_{name}": value for name, value in chosen.items()}})
    assert services["proxy"].definition["ports"] == ["0.0.0.0:443:8080", "0.0.0.0:444:8088", "0.0.0.0:445:8000"]


def test_services_believe_the_address_of_the_proxy_alone() -> None:
    """What another container says of clients is not believed: it cannot get the proxy's address."""
    networks = yaml.safe_load(compose.FILE.read_text())["networks"]
    proxy, believed = SERVICES["proxy"].definition["networks"], set()
    for network, served in {"to-airflow": "airflow-api", "to-superset": "superset", "to-api": "api"}.items():
        assert {name for name, one in SERVICES.items() if network in one.definition.get("networks", ())} == {"proxy", served}
        (given,) = compose.filled(networks[network], compose.filled_example())["ipam"]["config"]
        address, others = ip_address(proxy[network]["ipv4_address"]), ip_network(given["ip_range"])
        assert others.subnet_of(ip_network(given["subnet"]))
        assert address in ip_network(given["subnet"])
        assert address not in others
        assert str(address) != given["gateway"]
        believed |= {
            value for name, value in SERVICES[served].passed.items() if name.endswith("_TRUSTED_PROXIES") and value == str(address)
        }
    assert len(believed) == 2, "Superset's ProxyFix believes whoever reaches it"
    assert {value for one in SERVICES.values() for name, value in one.passed.items() if name.endswith("_TRUSTED_PROXIES")} == believed


def test_no_service_runs_as_root_or_can_gain_privileges() -> None:
    for name, service in SERVICES.items():
        assert service.definition["cap_drop"] == ["ALL"], name
        assert service.definition["security_opt"] == ["no-new-privileges:true"], name
        if not service.image and not service.definition["image"].startswith("postgres"):  # which gives up root by itself
            assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.definition["user"]), name
            assert "cap_add" not in service.definition, name


def test_each_image_is_built_by_one_service() -> None:
    building = [service.definition["image"] for service in SERVICES.values() if "build" in service.definition]
    assert sorted(building) == ["tidemark", "tidemark-superset"]


def test_services_reach_only_the_servers_that_they_use() -> None:
    networks = {name: set(service.definition.get("networks", ())) for name, service in SERVICES.items()}

    def reached(name: str) -> set[str]:
        return {other for other, those in networks.items() if those & networks[name] and SERVICES[other].health} - {name}

    dashboards = {"superset", "warm", "mongodb", "superset-database", "superset-cache"}
    assert reached("superset") == dashboards - {"superset"} | {"proxy"}
    assert all(reached(name) == dashboards - {name} for name in ("superset-init", "dashboards", "warm"))
    assert reached("proxy") == {"airflow-api", "superset", "api"}
    assert reached("airflow-database") == {name for name in SERVICES if name.startswith("airflow-")} - {"airflow-init", "airflow-database"}
    assert reached("kafka").isdisjoint({"superset", "superset-database", "superset-cache", "airflow-database"})
    assert networks.pop("accounts") == set(), "it is in MongoDB's"
    assert networks.pop("certificate") == set()
    assert all(networks.values())


def test_the_documentation_names_existing_services_and_variables() -> None:
    text = (CHECKOUT / "docs" / "deploy.md").read_text()
    known = {f"TIDEMARK_{name.upper()}" for name in Settings.model_fields} | set(compose.example())
    assert set(re.findall(r"TIDEMARK_[A-Z_]*[A-Z]\b", text.replace("TIDEMARK_MONGODB_..._PASSWORD", ""))) <= known
    (line,) = re.findall(r"^#   (awk .*)$", compose.EXAMPLE.read_text(), re.MULTILINE)
    assert line in text.splitlines()
    assert line in (CHECKOUT / "README.md").read_text().splitlines()
    run = re.findall(r"docker compose (?:run --rm|exec) ([a-z-]+)", text)
    assert {"backup", "prepare"} <= set(run) <= set(SERVICES)
    volumes = yaml.safe_load(compose.FILE.read_text())
    assert set(re.findall(r"tidemark_([a-z-]+)", text)) <= set(volumes["volumes"]) | {dag.value for dag in Dag}
    assert volumes["name"] == "tidemark"
