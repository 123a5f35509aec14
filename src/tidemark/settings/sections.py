"""The settings by section. A function that needs one section's settings takes that class; `Settings` is all of them."""

from __future__ import annotations

import json
import re
import sys
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import inf
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tidemark.catalog.rules import KEYED, RULES, Rules
from tidemark.settings.airflow_names import AirflowNames
from tidemark.settings.kafka_files import read_certificates, read_key, read_properties

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CHECKOUT = Path(__file__).resolve().parents[3]
# Where the package is installed without its checkout, state is kept in the user's folder.
HOME = (CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.home()) / ".tidemark"

Share = Annotated[float | None, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
# `never` is a limit that nothing exceeds. An empty variable means the default.
Limit = Annotated[float, BeforeValidator(lambda given: inf if given == "never" else given), Field(ge=0)]
NO_SECRET = SecretStr("")
DEFAULT_KEY = "default"  # the name of the single API key
_KEY_NAME = r"[A-Za-z0-9._-]{1,50}"


def separated(text: str) -> list[str]:
    """What a text separates by commas, without empty parts."""
    return [part for one in text.split(",") if (part := one.strip())]


def _from_json(given: object) -> object:
    try:
        return json.loads(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError('this is not JSON: give names and secrets, such as {"shop": "a secret"}') from None


_Section = TypeVar("_Section", bound="Section")


class Section(BaseSettings):
    """Settings from the environment: TIDEMARK_ and the field's name in capitals. Immutable."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMARK_",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # the input of a contradiction is all values, secrets among them
    )


class HomeSettings(Section):
    """State on disk"""

    home: Path = Field(HOME, description="folder of all state: data, logs, work files")

    @property
    def jars(self) -> Path:
        """Folder of the jars that set-up fetched: kafka/ for the broker, spark/ for Spark's connectors. Part of the environment."""
        return Path(sys.prefix) / "share" / "tidemark" / "jars"

    @property
    def class_archive(self) -> Path:
        """Archive of Spark's classes that set-up made (Java's class data sharing). Part of the environment."""
        return self.jars.with_name("spark.jsa")

    @property
    def work(self) -> Path:
        """Folder of temporary files: compressed files are unpacked there."""
        return self.home / "work"

    @property
    def catalogs(self) -> Path:
        """Folder of generated catalogs."""
        return self.home / "catalogs"

    @property
    def added_folders(self) -> Path:
        """File that lists the folders of files named on the command line."""
        return self.home / "ingest-folders"

    @property
    def jobs(self) -> Path:
        """Folder of the results that batch jobs hand to the tasks that run them."""
        return self.home / "jobs"


class NetworkSettings(Section):
    """Network"""

    trusted_hosts: str = Field(
        "",
        description="host names under which API, Airflow and Superset answer, separated by commas; loopback and the public URLs are always "
        "included. Empty is any name for servers that listen beyond loopback",
    )
    certificates: str = Field(
        "", description="folder of certificate.pem and key.pem for the proxy of Compose; without these files a self-signed one is made"
    )


class KafkaSettings(Section):
    """Kafka"""

    kafka_bootstrap_servers: str = Field("", description="Kafka to use; empty starts a local broker")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to connect to that Kafka: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how to log in where the protocol is SASL_...: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_user: str = Field("", description="account at that Kafka; the protocol must be SASL_...")
    kafka_password: SecretStr = Field(NO_SECRET, description="its password")
    batch_kafka_user: str = Field("", description="account of batch jobs; empty is the one of everything else")
    batch_kafka_password: SecretStr = Field(NO_SECRET, description="its password")
    kafka_ca_file: Path | None = Field(
        None, description="PEM file of the CAs that sign the brokers' certificates; empty trusts the system's"
    )
    kafka_certificate_file: Path | None = Field(
        None, description="PEM file of a client certificate, with its chain, for brokers that require one"
    )
    kafka_key_file: Path | None = Field(None, description="PEM file of its private key")
    kafka_key_password: SecretStr = Field(NO_SECRET, description="password of the private key; empty if it has none")
    kafka_properties_file: Path | None = Field(
        None,
        description="file of further properties, lines name=value, for confluent-kafka, Airflow and Spark; kafka-python reads none",
    )
    product_topic: str = Field("ingest-product", description="topic of products")
    category_topic: str = Field("ingest-category", description="topic of categories")
    product_partitions: int = Field(4, ge=1, description="partitions of the product topic when it is created")
    kafka_replication: int = Field(1, ge=1, description="replicas of a topic when it is created; 3 on a cluster")
    kafka_flush: bool = Field(
        False, description="a topic is created such that each event is on disk before it is acknowledged; for one broker"
    )
    other_producers: bool = Field(
        False,
        description="programs of others write to the topics: a topic with CreateTime is accepted, and a product's event must have its ASIN "
        "as key",
    )
    retention_days: int = Field(30, ge=1, description="retention of a topic when it is created; must outlast missed nights")
    kafka_host: str = Field("127.0.0.1", description="address the local broker listens on; it has no authentication")
    kafka_port: Port = Field(9092, description="port of the local broker")
    kafka_controller_port: Port = Field(9093, description="port of the local broker's KRaft controller")
    kafka_advertised: str = Field("", description="HOST:PORT that the local broker advertises, e.g. kafka:9092; empty is where it listens")

    @cached_property
    def kafka(self) -> str:
        """Bootstrap servers in use."""
        return self.kafka_bootstrap_servers or f"{url_host(self.kafka_host)}:{self.kafka_port}"

    @cached_property
    def kafka_advertised_address(self) -> str:
        """The local broker's advertised listener."""
        return self.kafka_advertised or f"{self.kafka_host}:{self.kafka_port}"

    @cached_property
    def topics(self) -> tuple[str, str]:
        """Product topic and category topic."""
        return self.product_topic, self.category_topic

    @property
    def rules(self) -> Rules:
        """The validation rules, before withdrawals."""
        return KEYED if self.other_producers else RULES

    @property
    def kafka_is_secured(self) -> bool:
        return self.kafka_security_protocol != "PLAINTEXT"

    @property
    def kafka_has_login(self) -> bool:
        return self.kafka_security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def kafka_has_tls(self) -> bool:
        return self.kafka_security_protocol in ("SSL", "SASL_SSL")

    def with_batch_account(self) -> Self:
        """These settings with the account of batch jobs in place of the other."""
        if not self.batch_kafka_user:
            return self
        return self.model_copy(update={"kafka_user": self.batch_kafka_user, "kafka_password": self.batch_kafka_password})

    @model_validator(mode="after")
    def _require_kafka_access(self) -> Self:
        protocol = f"TIDEMARK_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        if self.kafka_is_secured and not self.kafka_bootstrap_servers:
            raise ValueError(
                f"{protocol} is for a Kafka that you run, and the local broker has PLAINTEXT only: set TIDEMARK_KAFKA_BOOTSTRAP_SERVERS"
            )
        self._require_login_to_kafka(protocol)
        self._require_files_for_kafka(protocol)
        return self

    def _require_login_to_kafka(self, protocol: str) -> None:
        accounts = {"": (self.kafka_user, self.kafka_password), "BATCH_": (self.batch_kafka_user, self.batch_kafka_password)}
        for prefix, (user, password) in accounts.items():
            names = f"TIDEMARK_{prefix}KAFKA_USER", f"TIDEMARK_{prefix}KAFKA_PASSWORD"
            given = bool(user), bool(password.get_secret_value())
            if any(given) and not self.kafka_has_login:
                raise ValueError(
                    f"{names[0]} or its password is set, but {protocol} has no login: set SASL_SSL or SASL_PLAINTEXT, or remove them"
                )
            if any(given) != all(given) or (self.kafka_has_login and not prefix and not any(given)):
                missing = " and ".join(name for name, there in zip(names, given, strict=True) if not there)
                raise ValueError(f"{protocol} requires an account: set {missing}")
            if self.kafka_sasl_mechanism.startswith("SCRAM") and set(user) & set(",="):
                raise ValueError(f"{names[0]}={user} contains , or =, which kafka-python does not escape in SCRAM: choose another account")

    def _require_files_for_kafka(self, protocol: str) -> None:
        files = {name: getattr(self, name) for name in ("kafka_ca_file", "kafka_certificate_file", "kafka_key_file")}
        given = [f"TIDEMARK_{name.upper()}" for name, file in files.items() if file]
        if given and not self.kafka_has_tls:
            raise ValueError(f"{protocol} has no TLS, which {' and '.join(given)} is for: set SSL or SASL_SSL, or remove the files")
        if bool(self.kafka_certificate_file) != bool(self.kafka_key_file):
            raise ValueError(
                "a client certificate needs its key: set both TIDEMARK_KAFKA_CERTIFICATE_FILE and TIDEMARK_KAFKA_KEY_FILE, or neither"
            )
        key_password = self.kafka_key_password.get_secret_value()
        if key_password and not self.kafka_key_file:
            raise ValueError("TIDEMARK_KAFKA_KEY_PASSWORD is set, but there is no key: set TIDEMARK_KAFKA_KEY_FILE, or remove the password")
        if self.kafka_ca_file:
            read_certificates("TIDEMARK_KAFKA_CA_FILE", self.kafka_ca_file)
        if self.kafka_certificate_file and self.kafka_key_file:
            read_certificates("TIDEMARK_KAFKA_CERTIFICATE_FILE", self.kafka_certificate_file)
            read_key("TIDEMARK_KAFKA_KEY_FILE", self.kafka_key_file, key_password)
        if self.kafka_properties_file:
            read_properties("TIDEMARK_KAFKA_PROPERTIES_FILE", self.kafka_properties_file)


class MongodbSettings(Section):
    """MongoDB"""

    mongodb_url: str = Field("", description="replica set to use; empty starts a local one of one node")
    batch_mongodb_url: str = Field("", description="URL with the account of batch jobs; empty is the one of everything else")
    database: str = Field("tidemark", description="database")
    mongodb_port: Port = Field(27017, description="port of the local server")
    mongodb_cache_gb: float = Field(2.0, ge=0.25, description="cache of the local server in GB")
    mongodb_advertised: str = Field("", description="HOST:PORT of the local server in its replica set, where it has accounts")
    max_cells: Limit = Field(50_000, description="most cells of the reports; at most 50,000 for each GB of MongoDB's cache")
    mongodb_admin_password: SecretStr = Field(NO_SECRET, description="password of account admin, which creates the others")
    mongodb_ingest_password: SecretStr = Field(NO_SECRET, description="password of account ingest (Airflow's tasks)")
    mongodb_stream_password: SecretStr = Field(NO_SECRET, description="password of account stream")
    mongodb_batch_password: SecretStr = Field(NO_SECRET, description="password of account batch (batch jobs)")
    mongodb_reports_password: SecretStr = Field(NO_SECRET, description="password of account reports, which is read-only")

    @cached_property
    def mongodb(self) -> str:
        """URL in use."""
        return self.mongodb_url or f"mongodb://127.0.0.1:{self.mongodb_port}/?replicaSet=tidemark"

    @cached_property
    def batch_mongodb(self) -> str:
        """URL that batch jobs use."""
        return self.batch_mongodb_url or self.mongodb


class IngestionSettings(HomeSettings):
    """Ingestion"""

    products_pattern: str = Field(
        "", description="where a scheduled day's product files are, e.g. /in/products_{day}.csv (a path, glob or URL)"
    )
    categories_pattern: str = Field("", description="where a scheduled day's category files are")
    ingest_from: str = Field(
        "",
        description="folders and URLs from which runs may read files, separated by commas, e.g. /in,s3://bucket/in; empty is the folders "
        "of files that were given to `make run`. The folders of the patterns are always included",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='our column names with those of the files, e.g. {"price": "Price"}; an empty name where the files have no such column',
    )
    chunk_bytes: int = Field(16 * 1024 * 1024, ge=1, description="size of a chunk, rounded up to the end of its last record")
    acknowledge_seconds: int = Field(60, ge=1, description="timeout for Kafka's acknowledgement of a chunk")
    hold_rejected_share: Share = Field(
        None, description="a run waits for approval if a larger share of its rows is rejected, e.g. 0.01; empty never"
    )
    hold_products_shift: Share = Field(
        None, description="a run waits for approval if it changes the number of products by a larger share, e.g. 0.2; empty never"
    )
    hold_price_shift: Share = Field(
        None, description="a run waits for approval if it changes the average price by a larger share; empty never"
    )


def _networks(given: str) -> str:
    """Raises ValueError if a part is no address or network."""
    for one in separated(given):
        try:
            ip_network(one)
        except ValueError as error:
            raise ValueError(f"{error}: give addresses such as 10.0.0.5, or networks such as 10.0.0.0/24") from None
    return given


class ApiSettings(NetworkSettings):
    """HTTP API"""

    api_host: str = Field("127.0.0.1", description="address the API listens on; any other requires an API key")
    api_port: Port = Field(8000, description="port of the API")
    api_key: SecretStr = Field(NO_SECRET, description="value of header X-API-Key that requests must send; its name is `default`")
    api_keys: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_from_json)] = Field(
        default_factory=dict,
        description='more such values by name, e.g. {"shop": "..."}; each event carries the name. Without any key there is no check',
    )
    api_wrong_keys: int = Field(
        20, ge=1, description="wrong keys from one address within a minute; beyond it the answer is 429 until the minute has passed"
    )
    api_connections: int = Field(500, ge=1, description="most open connections; beyond it new ones are answered 503")
    api_connections_per_client: int = Field(
        100, ge=1, description="most open connections of one address (IPv6: of one /64 network); beyond it new ones are answered 429"
    )
    api_trusted_proxies: str = Field(
        "",
        description="addresses or networks of reverse proxies, separated by commas: X-Forwarded-For names their clients, "
        "and they may open any number of connections",
    )
    api_headers_seconds: float = Field(10, gt=0, description="timeout for receiving the headers of a request")
    api_idle_seconds: float = Field(5, gt=0, description="how long a connection stays open between two requests")
    api_body_bytes: int = Field(16 * 1024 * 1024, ge=1, description="largest body of a request")
    api_body_seconds: int = Field(60, ge=1, description="timeout for receiving a body")
    api_memory_bytes: int = Field(64 * 1024 * 1024, ge=1, description="most bytes of bodies held at once; beyond it the answer is 503")
    api_memory_bytes_per_client: int = Field(
        24 * 1024 * 1024,
        ge=1,
        description="most bytes of bodies of one address held at once, and always one whole body; beyond it the answer is 429",
    )
    api_acknowledge_seconds: int = Field(10, ge=1, description="timeout for Kafka's acknowledgement; beyond it the answer is 503")

    @cached_property
    def api_url(self) -> str:
        """The API's URL on this machine."""
        return f"http://{url_host(self.api_host)}:{self.api_port}"

    @cached_property
    def named_api_keys(self) -> dict[str, str]:
        """All keys by name; none if there is no check."""
        single = self.api_key.get_secret_value()
        return {**({DEFAULT_KEY: single} if single else {}), **{name: key.get_secret_value() for name, key in self.api_keys.items()}}

    @cached_property
    def trusted_proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of trusted proxies."""
        return tuple(map(ip_network, separated(self.api_trusted_proxies)))

    @model_validator(mode="after")
    def _require_api_key(self) -> Self:
        return self if self.api_keys else _require_secrets(self, "the HTTP API", self.api_host, "api_key")

    @model_validator(mode="after")
    def _require_distinct_keys(self) -> Self:
        for name, key in self.api_keys.items():
            if not re.fullmatch(_KEY_NAME, name) or name == DEFAULT_KEY:
                raise ValueError(
                    f"TIDEMARK_API_KEYS has a key named '{name}', but a name is 1 to 50 of A-Z, a-z, 0-9, '.', '_' and '-', "
                    f"and '{DEFAULT_KEY}' is the one of TIDEMARK_API_KEY: choose another name"
                )
            if not key.get_secret_value():
                raise ValueError(f"key '{name}' of TIDEMARK_API_KEYS is empty: give it a secret, or remove it")
        names: dict[str, str] = {}
        for name, secret in self.named_api_keys.items():
            if (other := names.setdefault(secret, name)) != name:
                raise ValueError(f"API keys '{other}' and '{name}' are the same secret, so nobody can tell them apart: give each its own")
        return self

    @field_validator("api_trusted_proxies")
    @classmethod
    def _require_networks(cls, given: str) -> str:
        return _networks(given)


class SparkSettings(HomeSettings, MongodbSettings):
    """Spark and the raw history"""

    spark_master: str = Field("local[2]", description="Spark master: local[N], spark://..., k8s://...")
    lake: str = Field(
        "",
        description="location of the raw history: a folder, s3a://..., hdfs://..., abfss://... or gs://...; empty is a folder under home",
    )
    speed_cores: int = Field(2, ge=1, description="cores of a cluster that the stream takes")
    batch_cores: int = Field(2, ge=1, description="cores of a cluster that a batch job takes")
    executor_memory: str = Field("1g", description="heap of each executor on a cluster")
    spark_secret: SecretStr = Field(
        NO_SECRET, description="secret that the programs of a standalone cluster require of each other; empty requires none"
    )
    spark_host: str = Field("", description="host name of this machine's drivers for executors on other machines; empty leaves it to Spark")
    spark_ui_port: Port = Field(4040, description="port of the stream's Spark pages")
    spark_master_ui_port: Port = Field(8480, description="port of a standalone master's pages")
    spark_worker_ui_port: Port = Field(8481, description="port of a standalone worker's pages")
    spark_worker_cores: int = Field(4, ge=1, description="cores of a standalone worker")
    spark_worker_memory: str = Field("4g", description="memory that a standalone worker gives to executors")

    @field_validator("lake")
    @classmethod
    def _require_s3a(cls, lake: str) -> str:
        if lake.startswith(("s3://", "s3n://")):
            raise ValueError("Spark's client for S3 has URLs that begin with s3a://, and only those have a safe log store: use s3a://")
        return lake

    @property
    def spark_bind(self) -> str:
        """Address that Spark's programs listen on: all interfaces, unless they are reached on this machine alone."""
        return self.spark_host if self.spark_host in LOOPBACK else "0.0.0.0"

    @cached_property
    def lake_url(self) -> str:
        """Location of the raw history; absolute where it is a folder. By default each database has its own."""
        return self.lake if "://" in self.lake else str((Path(self.lake) if self.lake else self.home / "lake" / self.database).resolve())


class StreamSettings(Section):
    """Stream"""

    trigger_seconds: float = Field(0.5, ge=0, description="shortest time from one micro-batch's start to the next")
    max_events_per_batch: int = Field(200_000, ge=1, description="most events in a micro-batch (Spark's maxOffsetsPerTrigger)")
    max_new_cells: Limit = Field(
        20_000, description="the stream waits for a person if a micro-batch adds more new cells to the reports; `never` disables it"
    )
    speed_memory: str = Field("2g", description="heap of the stream's Spark driver")
    speed_metrics_host: str = Field("127.0.0.1", description="address of the stream's Prometheus metrics")
    speed_metrics_port: Port = Field(9108, description="port of the stream's Prometheus metrics")

    @cached_property
    def speed_metrics_url(self) -> str:
        """URL of the stream's metrics."""
        return f"http://{url_host(self.speed_metrics_host)}:{self.speed_metrics_port}/metrics"


class BatchSettings(Section):
    """Nightly batch"""

    batch_memory: str = Field("3g", description="heap of a batch job's Spark driver")
    batch_idle_seconds: float = Field(
        60,
        ge=0,
        description="how long the process of a batch job waits for the next one, which then needs no start of Spark; 0 ends it at once",
    )
    full_every: int = Field(7, ge=1, description="every how many publications one is recomputed from the whole raw history")
    keep_publications: int = Field(7, ge=1, description="number of publications that are kept for rollbacks")
    keep_history_days: Limit = Field(inf, description="days of the history are kept so long; `never` deletes none")
    keep_verifications_days: Limit = Field(730, description="verifications are kept so long")
    keep_settled_days: Limit = Field(
        365, description="the raw bytes of quarantine records are kept so long after the event, if they are replayed, discarded or healed"
    )
    implausible_products_shift: Share = Field(
        None, description="a night waits for approval if the number of products changes by a larger share, e.g. 0.2; empty never"
    )
    implausible_price_shift: Share = Field(None, description="the same for the average price")
    implausible_unpriced_shift: Share = Field(None, description="the same for the share of unknown prices, e.g. 0.05")
    implausible_unrated_shift: Share = Field(None, description="the same for the share of products without a rating")
    implausible_categories_shift: Share = Field(None, description="the same for the number of categories")
    implausible_new_cells: Limit = Field(
        20_000, description="a night waits for approval if its corrections add more new cells to the reports; `never` disables it"
    )


class AlertSettings(HomeSettings):
    """Alerts"""

    alert_heartbeat_minutes: Limit = Field(5, description="alert if the stream's heartbeat is older; `never` disables an alert")
    alert_behind_minutes: Limit = Field(15, description="alert if the stream has not caught up with the log for longer")
    alert_drift: Limit = Field(1, description="alert if the last verification found as many differences or more")
    alert_rejected_share: Limit = Field(0.05, description="alert if a larger share of the last hour's events is rejected")
    alert_night_hours: Limit = Field(30, description="alert if no nightly batch has finished for longer")
    alert_restarts: Limit = Field(4, description="alert if the stream has restarted as often within an hour or more often")
    alert_disk_share: Limit = Field(0.85, description="alert if a larger share of MongoDB's disk, or of that of the state, is in use")
    alert_calm_minutes: float = Field(5, ge=0, description="minutes without the condition before an alert ends")
    alert_mail_to: str = Field("", description="recipients of alert mails, separated by commas")


class LoginSettings(Section):
    """Logins by an identity provider"""

    login_issuer: str = Field(
        "",
        description="issuer of the OpenID Connect provider by which people log in to Airflow and Superset, "
        "e.g. https://id.example.com/realms/company; empty is accounts with passwords",
    )
    login_client_id: str = Field("", description="the client that the provider knows Tidemark as")
    login_client_secret: SecretStr = Field(NO_SECRET, description="its secret")
    login_scopes: str = Field("openid profile", description="scopes that a login requests, separated by spaces; openid is one of them")
    login_name_claim: str = Field(
        "sub", description="claim that identifies a person; the provider must never give its value to anybody else"
    )
    login_groups_claim: str = Field("groups", description="claim that lists a person's groups")
    login_admins: str = Field("", description="groups whose members administer Airflow and Superset, separated by commas")
    login_operators: str = Field("", description="groups whose members operate the pipeline")
    login_viewers: str = Field("", description="groups whose members only look")
    login_hours: int = Field(12, ge=1, description="hours after which a person logs in again, so that groups are read again")

    @property
    def login_is_by_provider(self) -> bool:
        return bool(self.login_issuer)

    @model_validator(mode="after")
    def _require_client_of_provider(self) -> Self:
        client = {
            "TIDEMARK_LOGIN_CLIENT_ID": self.login_client_id,
            "TIDEMARK_LOGIN_CLIENT_SECRET": self.login_client_secret.get_secret_value(),
            "TIDEMARK_LOGIN_ADMINS": self.login_admins,
        }
        others = {"TIDEMARK_LOGIN_OPERATORS": self.login_operators, "TIDEMARK_LOGIN_VIEWERS": self.login_viewers}
        given = [name for name, value in (client | others).items() if value]
        if given and not self.login_is_by_provider:
            raise ValueError(
                f"there is no identity provider that {', '.join(given)} could be of: set TIDEMARK_LOGIN_ISSUER, or set none of them"
            )
        missing = [name for name, value in client.items() if not value]
        if missing and self.login_is_by_provider:
            raise ValueError(
                "TIDEMARK_LOGIN_ISSUER names an identity provider, which requires a client there and a group that administers: "
                f"set {', '.join(missing)}"
            )
        return self

    @field_validator("login_issuer")
    @classmethod
    def _require_issuer(cls, issuer: str) -> str:
        url = urlsplit(issuer)
        if issuer and (not url.hostname or url.scheme not in ("https", "http")):
            raise ValueError("an issuer is the URL of a provider: give one such as https://id.example.com/realms/company")
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            raise ValueError("over http anybody on the way to the provider could log in as anybody: use https")
        if url.path.endswith("/.well-known/openid-configuration"):
            raise ValueError("this is the address of the provider's configuration: give what is before /.well-known/")
        return issuer

    @field_validator("login_scopes")
    @classmethod
    def _require_openid(cls, scopes: str) -> str:
        if "openid" not in scopes.split():
            raise ValueError("without the scope openid a provider does not say who has logged in: add it")
        return scopes


class AirflowSettings(HomeSettings, NetworkSettings, LoginSettings):
    """Airflow"""

    airflow_host: str = Field("127.0.0.1", description="address Airflow listens on; any other requires its password and secret key")
    airflow_port: Port = Field(8080, description="port of Airflow's pages and REST API")
    airflow_password: SecretStr = Field(
        NO_SECRET, description="password of account admin; empty generates one under home, which `make status` shows"
    )
    airflow_secret_key: SecretStr = Field(
        NO_SECRET, description="key that all of Airflow's processes sign and encrypt with; empty generates secrets under home"
    )
    airflow_url: str = Field(
        "", description="URL of Airflow's API for its other processes, e.g. http://airflow-api:8080; empty is this machine"
    )
    airflow_public_url: str = Field("", description="Airflow's URL in browsers; empty is the one of its processes")
    airflow_trusted_proxies: str = Field(
        "", description="addresses or networks of reverse proxies, separated by commas: X-Forwarded-For and -Proto tell what clients used"
    )
    airflow_database_url: str = Field("", description="Airflow's metadata database; empty is SQLite under home")
    airflow_parallelism: int = Field(3, ge=1, description="tasks that Airflow runs at once")
    airflow_prefix: str = Field(
        "tidemark", pattern="^[a-z][a-z0-9_]*$", description="prefix of the names of DAGs, pools and connections in Airflow"
    )
    clean_airflow: bool = Field(
        False,
        description="DAG tidemark_maintenance deletes old records and logs of all of Airflow's runs; `make run` and Compose set it",
    )
    guard_airflow: bool = Field(
        False,
        description="Airflow's server refuses other host names and frames of other sites; `make run` and Compose set it",
    )
    keep_runs_days: int = Field(90, ge=14, description="retention of Airflow's records and logs of runs in days")

    @cached_property
    def airflow_names(self) -> AirflowNames:
        """The names of DAGs, pools and connections."""
        return AirflowNames(self.airflow_prefix)

    @cached_property
    def airflow_api(self) -> str:
        """URL of Airflow's API."""
        return self.airflow_url or f"http://{url_host(self.airflow_host)}:{self.airflow_port}"

    @cached_property
    def airflow_pages(self) -> str:
        """Airflow's URL for people."""
        return self.airflow_public_url or self.airflow_api

    @cached_property
    def airflow_database(self) -> str:
        """URL of Airflow's metadata database. SQLite has one writer at a time: its default timeout of five seconds is too short."""
        return self.airflow_database_url or f"sqlite:///{(self.home / 'airflow' / 'airflow.db').resolve()}?timeout=60"

    @field_validator("airflow_trusted_proxies")
    @classmethod
    def _require_networks_of_proxies(cls, given: str) -> str:
        return _networks(given)

    @model_validator(mode="after")
    def _require_login(self) -> Self:
        return _require_secrets(self, "Airflow", self.airflow_host, "airflow_password", "airflow_secret_key")


class SupersetSettings(HomeSettings, NetworkSettings, LoginSettings):
    """Superset"""

    superset_host: str = Field("127.0.0.1", description="address Superset listens on; any other requires its passwords and secret key")
    superset_port: Port = Field(8088, description="port of Superset's pages")
    superset_public_url: str = Field(
        "", description="Superset's URL in browsers; empty is this machine. If it begins with https, a proxy with TLS is in front"
    )
    superset_password: SecretStr = Field(NO_SECRET, description="password of account admin; empty generates one, as for Airflow")
    superset_viewer_password: SecretStr = Field(NO_SECRET, description="password of the read-only account viewer; empty generates one")
    superset_secret_key: SecretStr = Field(NO_SECRET, description="key that Superset signs sessions with; empty generates one under home")
    superset_database_url: str = Field("", description="Superset's metadata database; empty is SQLite under home")
    superset_cache_url: str = Field("", description="Redis for the results of charts; empty caches them in files under home")
    superset_mongodb_url: str = Field("", description="URL with a read-only account; empty is the one of everything else")
    superset_pictures_from: str = Field(
        "https://m.media-amazon.com https://images-na.ssl-images-amazon.com",
        description="origins of product pictures that Superset's pages may load, separated by spaces",
    )
    superset_live_seconds: int = Field(2, ge=1, description="how long results of charts over the live reports are cached")
    superset_query_seconds: int = Field(60, ge=1, le=110, description="time limit of a query of a chart or of SQL Lab")
    superset_workers: int = Field(2, ge=1, description="worker processes of Superset, of 350 MB each")

    @cached_property
    def superset_url(self) -> str:
        """Superset's URL on this machine."""
        return f"http://{url_host(self.superset_host)}:{self.superset_port}"

    @cached_property
    def superset_pages(self) -> str:
        """Superset's URL for people."""
        return self.superset_public_url or self.superset_url

    @model_validator(mode="after")
    def _require_passwords(self) -> Self:
        secrets = ("superset_password", "superset_viewer_password", "superset_secret_key")
        return _require_secrets(self, "Superset", self.superset_host, *secrets)


SECTIONS: tuple[type[Section], ...] = (
    HomeSettings,
    NetworkSettings,
    KafkaSettings,
    MongodbSettings,
    IngestionSettings,
    ApiSettings,
    SparkSettings,
    StreamSettings,
    BatchSettings,
    AlertSettings,
    LoginSettings,
    AirflowSettings,
    SupersetSettings,
)


def own_fields(section: type[Section]) -> list[str]:
    """Names of the settings of a section, without those of sections that it extends."""
    return [name for name in section.model_fields if name in section.__annotations__]


def url_host(host: str) -> str:
    """The host of a URL on this machine for the address that a server listens on."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"[{host}]" if ":" in host else host


def _require_secrets(section: _Section, server: str, host: str, *secrets: str) -> _Section:
    missing = [f"TIDEMARK_{name.upper()}" for name in secrets if not getattr(section, name).get_secret_value()]
    if missing and host not in LOOPBACK:
        raise ValueError(f"{server} listens on {host}, which requires secrets: set {', '.join(missing)}")
    return section
