"""Access to MongoDB for tasks, through Airflow's connection.

This file is not a DAG (it is listed in .airflowignore).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.mongo.hooks.mongo import MongoHook
from pymongo.database import Database

from tidemark.serving.database import Document, database_of
from tidemark.settings import Settings
from tidemark.settings.airflow_names import Connection


@contextmanager
def connected(of: Settings) -> Iterator[Database[Document]]:
    with MongoHook(of.airflow_names.of(Connection.MONGODB)) as mongo:
        yield database_of(mongo.get_conn(), of.database)
