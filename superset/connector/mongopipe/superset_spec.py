"""The engine spec for mongopipe:// in Apache Superset (entry point superset.db_engine_specs)."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import types
from superset.constants import TimeGrain
from superset.db_engine_specs.base import BaseEngineSpec, LimitMethod
from superset.sql.parse import SQLGLOT_DIALECTS
from superset.utils.core import GenericDataType

from mongopipe import errors
from mongopipe.translate.bind.handlers import function_names
from mongopipe.translate.parse import Mongopipe

if TYPE_CHECKING:
    from superset.models.core import Database
    from superset.models.sql_lab import Query
    from superset.sql.parse import Table

SQLGLOT_DIALECTS["mongopipe"] = Mongopipe  # Superset parses and formats statements in the dialect that mongopipe reads


class MongopipeEngineSpec(BaseEngineSpec):  # type: ignore[misc]
    """MongoDB through mongopipe: charts, filters, drilling and SQL Lab, read-only."""

    engine = "mongopipe"
    engine_name = "MongoDB (mongopipe)"
    drivers = {"mongopipe": "one host or several", "srv": "hosts from DNS"}  # noqa: RUF012  # BaseEngineSpec declares it this way
    default_driver = "mongopipe"
    sqlalchemy_uri_placeholder = "mongopipe://user:password@host:port/database?authSource=admin"

    allows_joins = False  # a series limit becomes a query of its own instead of a join with a subquery
    allows_subqueries = True
    allows_alias_in_select = True
    allows_alias_in_orderby = True
    allows_alias_to_source_column = True
    allows_hidden_orderby_agg = True
    allows_hidden_cc_in_orderby = True
    allows_cte_in_subquery = True
    allows_sql_comments = True
    limit_method = LimitMethod.FORCE_LIMIT
    supports_file_upload = False
    supports_dynamic_schema = False
    supports_catalog = False
    has_query_id_before_execute = True

    _time_grain_expressions = {  # noqa: RUF012
        None: "{col}",
        TimeGrain.SECOND: "DATE_TRUNC('second', {col})",
        TimeGrain.FIVE_SECONDS: "DATE_BIN(INTERVAL '5' SECOND, {col})",
        TimeGrain.THIRTY_SECONDS: "DATE_BIN(INTERVAL '30' SECOND, {col})",
        TimeGrain.MINUTE: "DATE_TRUNC('minute', {col})",
        TimeGrain.FIVE_MINUTES: "DATE_BIN(INTERVAL '5' MINUTE, {col})",
        TimeGrain.TEN_MINUTES: "DATE_BIN(INTERVAL '10' MINUTE, {col})",
        TimeGrain.FIFTEEN_MINUTES: "DATE_BIN(INTERVAL '15' MINUTE, {col})",
        TimeGrain.THIRTY_MINUTES: "DATE_BIN(INTERVAL '30' MINUTE, {col})",
        TimeGrain.HOUR: "DATE_TRUNC('hour', {col})",
        TimeGrain.SIX_HOURS: "DATE_BIN(INTERVAL '6' HOUR, {col})",
        TimeGrain.DAY: "DATE_TRUNC('day', {col})",
        TimeGrain.WEEK: "DATE_TRUNC('week', {col})",
        TimeGrain.WEEK_STARTING_SUNDAY: "DATE_TRUNC('week', {col} + INTERVAL '1' DAY) - INTERVAL '1' DAY",
        TimeGrain.WEEK_STARTING_MONDAY: "DATE_TRUNC('week', {col})",
        TimeGrain.WEEK_ENDING_SATURDAY: "DATE_TRUNC('week', {col} + INTERVAL '1' DAY) + INTERVAL '5' DAY",
        TimeGrain.WEEK_ENDING_SUNDAY: "DATE_TRUNC('week', {col}) + INTERVAL '6' DAY",
        TimeGrain.MONTH: "DATE_TRUNC('month', {col})",
        TimeGrain.QUARTER: "DATE_TRUNC('quarter', {col})",
        TimeGrain.YEAR: "DATE_TRUNC('year', {col})",
    }

    column_type_mappings = (
        (re.compile(r"^objectid", re.IGNORECASE), types.String(), GenericDataType.STRING),
        (re.compile(r"^(array|document|mixed|binary)", re.IGNORECASE), types.String(), GenericDataType.STRING),
    )

    @classmethod
    def epoch_to_dttm(cls) -> str:
        """Returns the timestamp of a column that counts seconds since 1970."""
        return "DATE_ADD(TIMESTAMP '1970-01-01 00:00:00', {col}, SECOND)"

    @classmethod
    def epoch_ms_to_dttm(cls) -> str:
        """Returns the timestamp of a column that counts milliseconds since 1970."""
        return "DATE_ADD(TIMESTAMP '1970-01-01 00:00:00', {col}, MILLISECOND)"

    @classmethod
    def convert_dttm(cls, target_type: str, dttm: datetime, db_extra: dict[str, Any] | None = None) -> str | None:
        """Returns the SQL literal of a timestamp for a column of that type, or None if the type is not temporal."""
        column_type = cls.get_sqla_column_type(target_type)
        if isinstance(column_type, types.Date):
            return f"DATE '{dttm.date().isoformat()}'"
        if isinstance(column_type, types.DateTime):
            return f"TIMESTAMP '{dttm.isoformat(sep=' ', timespec='milliseconds')}'"
        return None

    @classmethod
    def get_dbapi_exception_mapping(cls) -> dict[type[Exception], type[Exception]]:
        """Maps DB-API errors to Superset's errors, so that Superset shows their messages."""
        from superset.db_engine_specs.exceptions import (
            SupersetDBAPIDatabaseError,
            SupersetDBAPIOperationalError,
            SupersetDBAPIProgrammingError,
        )

        return {
            errors.ProgrammingError: SupersetDBAPIProgrammingError,
            errors.NotSupportedError: SupersetDBAPIProgrammingError,
            errors.OperationalError: SupersetDBAPIOperationalError,
            errors.DatabaseError: SupersetDBAPIDatabaseError,
        }

    @classmethod
    def get_cancel_query_id(cls, cursor: Any, query: Query) -> str | None:
        """Returns the id by which another process can cancel the cursor's query."""
        return str(cursor.query_id)

    @classmethod
    def cancel_query(cls, cursor: Any, query: Query, cancel_query_id: str) -> bool:
        """Cancels a query. Returns False if the server returns an error."""
        try:
            cursor.connection.cancel(cancel_query_id)
        except errors.Error:
            return False
        return True

    @classmethod
    def get_allow_cost_estimate(cls, extra: dict[str, Any]) -> bool:
        """Returns True: an estimate requests the server's plan and does not run the query."""
        return True

    @classmethod
    def estimate_statement_cost(cls, database: Database, statement: str, cursor: Any) -> dict[str, Any]:
        """Returns what the statement would read: see Cursor.estimate."""
        return dict(cursor.estimate(statement))

    @classmethod
    def query_cost_formatter(cls, raw_cost: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Formats the estimates as text."""
        return [{name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in each.items()} for each in raw_cost]

    @classmethod
    def get_extra_table_metadata(cls, database: Database, table: Table) -> dict[str, Any]:
        """Returns the indexes of a collection, or the definition of a view."""
        with database.get_raw_connection(catalog=table.catalog, schema=table.schema) as connection:
            reflection = connection.cursor().connection.reflection
            view = reflection.view(table.table)
            if view:
                return {"view": {"on": view["viewOn"], "pipeline": json.dumps(view["pipeline"], default=str)}}
            indexes = {name: dict(index["key"]) for name, index in reflection.indexes(table.table).items()}
            return {"indexes": [{"name": name, "columns": list(keys)} for name, keys in indexes.items()]}

    @classmethod
    def get_function_names(cls, database: Database) -> list[str]:
        """Returns the function names that SQL Lab completes."""
        return function_names()
