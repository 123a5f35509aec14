"""Every setting of Tidemark, from the environment: `TIDEMARK_` and the field's name in capitals.

The one place that reads the environment. The table in README.md is checked against this file by a test.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property, lru_cache
from math import inf
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CHECKOUT = Path(__file__).resolve().parents[3]
# Where the package is installed without its checkout, state is kept in the user's folder.
HOME = (CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.home()) / ".tidemark"

Share = Annotated[float | None, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
# What nothing passes where it is `never`: an empty variable is the default.
Limit = Annotated[float, BeforeValidator(lambda given: inf if given == "never" else given), Field(ge=0)]


class Settings(BaseSettings):
    """One environment's settings; immutable, so that a process sees one configuration from start to end."""

    model_config = SettingsConfigDict(env_prefix="TIDEMARK_", frozen=True, env_ignore_empty=True)

    home: Path = Field(HOME, description="folder of all state: data, logs, jars, work files")

    # servers: an address given here is a server the user runs; it is then not started locally
    kafka_bootstrap_servers: str = Field("", description="Kafka to use; empty starts one")
    mongodb_url: str = Field("", description="MongoDB replica set to use; empty starts a one-node one")
    batch_mongodb_url: str = Field("", description="the same as batch jobs use it, with an account of theirs; empty is that of the rest")
    spark_master: str = Field("local[2]", description="where the Spark jobs run: local[N], spark://..., k8s://...")
    airflow_database_url: str = Field("", description="Airflow's metadata database; empty is SQLite under home")

    # addresses of what is started: by default only this machine reaches it
    kafka_host: str = Field("127.0.0.1", description="address the local Kafka listens on; it asks nobody for a password")
    kafka_advertised: str = Field("", description="HOST:PORT by which others reach it, e.g. kafka:9092; empty is where it listens")
    mongodb_advertised: str = Field("", description="the same of the local MongoDB, where it asks for accounts")
    airflow_host: str = Field("127.0.0.1", description="address Airflow listens on; with any other, give its password and secret key")
    airflow_url: str = Field(
        "", description="where Airflow's other processes reach its API, e.g. http://airflow-api:8080; empty: on this machine"
    )
    spark_host: str = Field(
        "", description="name by which Spark's programs on other machines reach those of this one; empty leaves it to Spark"
    )
    speed_metrics_host: str = Field("127.0.0.1", description="address the stream's figures are served on")
    airflow_public_url: str = Field("", description="Airflow's address in people's browsers; empty is where its processes reach it")
    superset_public_url: str = Field("", description="the same of Superset; empty: on this machine")

    # ports of what is started locally
    kafka_port: Port = Field(9092, description="local Kafka broker")
    kafka_controller_port: Port = Field(9093, description="local Kafka's KRaft controller")
    mongodb_port: Port = Field(27017, description="local MongoDB")
    airflow_port: Port = Field(8080, description="Airflow's pages and REST API")
    spark_ui_port: Port = Field(4040, description="the stream's Spark pages")
    speed_metrics_port: Port = Field(9108, description="the stream's figures, for Prometheus")
    api_port: Port = Field(8000, description="the HTTP API")
    superset_port: Port = Field(8088, description="Superset's pages")
    spark_master_ui_port: Port = Field(8480, description="pages of a Spark standalone master, where one is started")
    spark_worker_ui_port: Port = Field(8481, description="pages of its worker")

    # what is read and written
    database: str = Field("tidemark", description="MongoDB database")
    product_topic: str = Field("ingest-product", description="Kafka topic of products")
    category_topic: str = Field("ingest-category", description="Kafka topic of categories")
    product_partitions: int = Field(4, ge=1, description="partitions of the product topic when it is created")
    kafka_replication: int = Field(1, ge=1, description="replicas of a topic when it is created; 3 on a cluster")
    retention_days: int = Field(30, ge=1, description="how long new topics keep events; must outlast missed nights")
    lake: str = Field("", description="where the raw history is kept: a folder, s3a://... or hdfs://...; empty is one under home")

    # ingestion
    products_pattern: str = Field(
        "", description="where a scheduled day's product files are, e.g. /in/products_{day}.csv (glob, or an fsspec URL)"
    )
    categories_pattern: str = Field("", description="the same for category files")
    columns: dict[str, str] = Field(
        default_factory=dict, description='columns by our name, where a file has others, e.g. {"price": "Price"}; empty name: it has none'
    )
    chunk_bytes: int = Field(16 * 1024 * 1024, ge=1, description="size of a chunk, rounded up to the end of its last record")
    acknowledge_seconds: int = Field(60, ge=1, description="longest wait for Kafka to acknowledge what a chunk produced")

    hold_rejected_share: Share = Field(
        None, description="a run waits for a person where more of its rows are rejected, e.g. 0.01; empty never"
    )
    hold_products_shift: Share = Field(None, description="the same where it moves the number of products by more, e.g. 0.2")
    hold_price_shift: Share = Field(None, description="the same where it moves the average price by more")

    # the HTTP API
    api_host: str = Field("127.0.0.1", description="address the HTTP API listens on; with any other, set an API key")
    api_key: SecretStr = Field(SecretStr(""), description="what posts must send as X-API-Key; empty lets anybody post who reaches the API")
    api_body_bytes: int = Field(16 * 1024 * 1024, ge=1, description="largest body of a request")
    api_body_seconds: int = Field(60, ge=1, description="longest time for a body to come")
    api_memory_bytes: int = Field(64 * 1024 * 1024, ge=1, description="most bytes of bodies held at once; beyond it the answer is 503")
    api_acknowledge_seconds: int = Field(10, ge=1, description="longest wait of a post for Kafka; beyond it the answer is 503")

    # the stream
    trigger_seconds: float = Field(0.5, ge=0, description="shortest time from one micro-batch's start to the next")
    max_events_per_batch: int = Field(200_000, ge=1, description="most events one micro-batch takes (Spark's maxOffsetsPerTrigger)")
    speed_memory: str = Field("2g", description="heap of the stream's Spark driver")

    # a Spark cluster, where the master is one
    speed_cores: int = Field(2, ge=1, description="cores of a Spark cluster that the stream takes")
    batch_cores: int = Field(2, ge=1, description="cores of a Spark cluster that a batch job takes")
    executor_memory: str = Field("1g", description="heap of each executor on a Spark cluster")
    spark_worker_cores: int = Field(4, ge=1, description="cores that a Spark standalone worker gives, where one is started")
    spark_worker_memory: str = Field("4g", description="memory that it gives to executors")

    # the nightly batch
    batch_memory: str = Field("3g", description="heap of a batch job's Spark driver")
    full_every: int = Field(7, ge=1, description="every how many publications one is recomputed from the raw history")
    keep_publications: int = Field(7, ge=1, description="how many publications are kept to go back to")

    implausible_products_shift: Share = Field(
        None, description="a night waits for a person where its publication has more or fewer products by more, e.g. 0.2; empty never"
    )
    implausible_price_shift: Share = Field(None, description="the same where the average price moves by more")
    implausible_unpriced_shift: Share = Field(None, description="the same where the share of unknown prices moves by more, e.g. 0.05")
    implausible_unrated_shift: Share = Field(None, description="the same where the share of products without a rating moves by more")
    implausible_categories_shift: Share = Field(None, description="the same where the number of categories moves by more")

    # alerts: what tells them is Airflow's connections tidemark_smtp and tidemark_webhook
    alert_heartbeat_minutes: Limit = Field(5, description="alert where the stream gives no sign of life for longer; `never` for none")
    alert_behind_minutes: Limit = Field(15, description="the same where it has not caught up with the log for longer")
    alert_drift: Limit = Field(1, description="the same where the last verification found so many differences, or more")
    alert_rejected_share: Limit = Field(0.05, description="the same where more of the last hour's events are rejected")
    alert_night_hours: Limit = Field(30, description="the same where no nightly batch has come to its end for longer")
    alert_restarts: Limit = Field(4, description="the same where the stream has started so often within an hour, or more")
    alert_calm_minutes: float = Field(5, ge=0, description="how long nothing must be wrong before an alert is over")
    alert_mail_to: str = Field("", description="whom alerts are mailed to, commas between")

    # upkeep
    keep_runs_days: int = Field(90, ge=14, description="how many days Airflow's records and logs of runs are kept")

    # passwords of MongoDB's accounts, where the one that is started asks for them
    mongodb_admin_password: SecretStr = Field(SecretStr(""), description="of MongoDB's account admin, which makes the others")
    mongodb_ingest_password: SecretStr = Field(SecretStr(""), description="of its account ingest, which Airflow's tasks have")
    mongodb_stream_password: SecretStr = Field(SecretStr(""), description="of its account stream, which the stream has")
    mongodb_batch_password: SecretStr = Field(SecretStr(""), description="of its account batch, which batch jobs have")
    mongodb_reports_password: SecretStr = Field(SecretStr(""), description="of its account reports, which reads all and writes nothing")

    # Airflow's login
    airflow_password: SecretStr = Field(SecretStr(""), description="of Airflow's account admin; empty lets in whoever reaches Airflow")
    airflow_secret_key: SecretStr = Field(
        SecretStr(""), description="what all of Airflow's processes sign and seal with; empty makes secrets under home"
    )

    # the dashboards
    superset_host: str = Field("127.0.0.1", description="address Superset listens on; with any other, give passwords and the secret key")
    superset_password: SecretStr = Field(SecretStr(""), description="of Superset's account admin; empty is admin")
    superset_viewer_password: SecretStr = Field(SecretStr(""), description="of its account viewer, who changes nothing; empty is viewer")
    superset_secret_key: SecretStr = Field(SecretStr(""), description="what Superset signs sessions with; empty makes one under home")
    superset_database_url: str = Field("", description="Superset's metadata database; empty is SQLite under home")
    superset_cache_url: str = Field("", description="Redis for the answers of charts; empty keeps them in files under home")
    superset_mongodb_url: str = Field("", description="MongoDB as Superset reads it, of a read-only user; empty is that of the rest")
    superset_pictures_from: str = Field(
        "https://m.media-amazon.com https://images-na.ssl-images-amazon.com",
        description="from where Superset's pages may load pictures of products, separated by spaces",
    )
    superset_live_seconds: int = Field(2, ge=1, description="how long the answer of a chart over the live reports is kept")
    superset_workers: int = Field(2, ge=1, description="processes that answer Superset's pages, of 350 MB each; as many as cores help")

    # Airflow, which may run the DAGs of others too
    airflow_prefix: str = Field(
        "tidemark", pattern="^[a-z][a-z0-9_]*$", description="what the names of our DAGs, pools and connections in Airflow begin with"
    )
    clean_airflow: bool = Field(
        False, description="whether DAG maintenance deletes old records and logs of all runs of this Airflow; `make run` and Compose set it"
    )

    # small print of the local stack
    airflow_parallelism: int = Field(3, ge=1, description="tasks that Airflow runs at once")
    mongodb_cache_gb: float = Field(2.0, ge=0.25, description="local MongoDB's cache")

    @cached_property
    def kafka(self) -> str:
        """Bootstrap servers in use."""
        return self.kafka_bootstrap_servers or f"{_reached(self.kafka_host)}:{self.kafka_port}"

    @cached_property
    def kafka_here(self) -> str:
        """Where the local Kafka tells clients to come to."""
        return self.kafka_advertised or f"{self.kafka_host}:{self.kafka_port}"

    @cached_property
    def mongodb(self) -> str:
        """MongoDB URL in use."""
        return self.mongodb_url or f"mongodb://127.0.0.1:{self.mongodb_port}/?replicaSet=tidemark"

    @cached_property
    def batch_mongodb(self) -> str:
        """MongoDB URL that batch jobs use."""
        return self.batch_mongodb_url or self.mongodb

    @cached_property
    def api_url(self) -> str:
        """Where the HTTP API is reached from this machine."""
        return f"http://{_reached(self.api_host)}:{self.api_port}"

    @cached_property
    def speed_metrics_url(self) -> str:
        """Where the stream's figures are read."""
        return f"http://{_reached(self.speed_metrics_host)}:{self.speed_metrics_port}/metrics"

    @property
    def spark_bind(self) -> str:
        """Address that Spark's programs listen on: all of this machine's, unless they are to be reached on it alone."""
        return self.spark_host if self.spark_host in LOOPBACK else "0.0.0.0"

    @cached_property
    def airflow_api(self) -> str:
        """Where Airflow's API is reached."""
        return self.airflow_url or f"http://{_reached(self.airflow_host)}:{self.airflow_port}"

    @cached_property
    def airflow_pages(self) -> str:
        """Airflow's address for people."""
        return self.airflow_public_url or self.airflow_api

    @cached_property
    def superset_url(self) -> str:
        """Where Superset is reached from this machine."""
        return f"http://{_reached(self.superset_host)}:{self.superset_port}"

    @cached_property
    def superset_pages(self) -> str:
        """Superset's address for people."""
        return self.superset_public_url or self.superset_url

    @cached_property
    def lake_url(self) -> str:
        """Where the raw history is kept: absolute where it is a folder. By default each database has its own."""
        return self.lake if "://" in self.lake else str((Path(self.lake) if self.lake else self.home / "lake" / self.database).resolve())

    @cached_property
    def airflow_database(self) -> str:
        """URL of Airflow's metadata database. SQLite has one writer at a time: on a busy machine the others wait longer than its five
        seconds.
        """
        return self.airflow_database_url or f"sqlite:///{(self.home / 'airflow' / 'airflow.db').resolve()}?timeout=60"

    @property
    def jars(self) -> Path:
        """Folder of the jars that set-up fetched: kafka/ for the broker, spark/ for Spark's connectors. Part of the environment."""
        return Path(sys.prefix) / "share" / "tidemark" / "jars"

    @property
    def class_archive(self) -> Path:
        """File of Spark's classes as a JVM maps them, which set-up made. Part of the environment."""
        return self.jars.with_name("spark.jsa")

    @property
    def work(self) -> Path:
        """Folder of what is needed for a while: compressed files are unpacked there."""
        return self.home / "work"

    @property
    def jobs(self) -> Path:
        """Folder of what batch jobs hand to who runs them."""
        return self.home / "jobs"

    @cached_property
    def topics(self) -> tuple[str, str]:
        """Product topic and category topic."""
        return self.product_topic, self.category_topic


def _reached(host: str) -> str:
    """How a URL on this machine names the address that a server listens on."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"[{host}]" if ":" in host else host


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises pydantic.ValidationError, which names the variable, where a value does not fit.
    """
    return Settings()  # type: ignore[call-arg]


def java() -> str:
    """The java that everything runs with: JAVA_HOME's, else the PATH's."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def in_words(error: ValidationError) -> list[str]:
    """A line for each variable whose value does not fit."""
    return [f"TIDEMARK_{'_'.join(map(str, one['loc'])).upper()}={one['input']}: {one['msg']}" for one in error.errors()]
