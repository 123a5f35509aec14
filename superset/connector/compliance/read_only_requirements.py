"""The requirements of SQLAlchemy's suite that apply to a read-only dialect with one schema."""

from __future__ import annotations

from typing import Any

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

_OPEN = ("ctes", "window_functions", "boolean_col_expressions", "order_by_label_with_expression", "sql_expression_limit_offset")
_CLOSED = (
    *("autoincrement_insert", "insert_from_select", "returning", "insert_returning", "empty_inserts", "update_from", "delete_from"),
    *("emulated_lastrowid", "implements_get_lastrowid", "sane_rowcount", "sequences", "identity_columns", "computed_columns"),
    *("schemas", "temp_table_names", "temp_table_reflection", "table_reflection", "view_column_reflection"),
    *("foreign_keys", "foreign_key_constraint_reflection", "self_referential_foreign_keys"),
    *("primary_key_constraint_reflection", "unique_constraint_reflection"),
    *("independent_connections", "savepoints", "two_phase_transactions", "isolation_level"),
    *("intersect", "except_", "parens_in_union_contained_select_w_limit_offset", "fetch_first", "regexp_match"),
    *("tuple_in", "tuple_in_w_empty", "json_type", "uuid_data_type", "text_type", "unbounded_varchar"),
    *("time", "time_microseconds", "datetime_microseconds", "timestamp_microseconds"),
    *("precision_numerics_enotation_small", "precision_numerics_enotation_large"),
    *("precision_numerics_many_significant_digits", "precision_generic_float_type"),
)


class Requirements(SuiteRequirements):  # type: ignore[misc]
    """Closed requirements: writes, transactions, several schemas, constraints, and SQL that mongopipe does not support."""


def _answer(name: str, answer: Any) -> None:
    setattr(Requirements, name, property(lambda _: answer(), doc=f"whether {name} applies"))


for _name in _OPEN:
    _answer(_name, exclusions.open)
for _name in _CLOSED:
    _answer(_name, exclusions.closed)
