"""Templates are for whoever writes datasets: not for what a chart sends, which anybody who may look at a chart can write."""

from typing import Any


def processor(table: Any = None, query: Any = None, **named: Any) -> Any:
    """Superset's template processor for a dataset, or for a query of SQL Lab, which a role must allow."""
    # Superset loads its configuration, and with it this module, before its own modules.
    from superset.errors import ErrorLevel, SupersetError, SupersetErrorType
    from superset.exceptions import SupersetSyntaxErrorException
    from superset.jinja_context import JinjaTemplateProcessor

    class OfDatasets(JinjaTemplateProcessor):
        def process_template(self, sql: str, **more: Any) -> str:
            if not _is_template(sql):
                return sql
            if query is None and sql not in _stored(table):
                message = "a chart must not contain a template ({{ or {%): write it into the SQL of a dataset"
                raise SupersetSyntaxErrorException([SupersetError(message, SupersetErrorType.GENERIC_COMMAND_ERROR, ErrorLevel.ERROR)])
            return str(super().process_template(sql, **more))

    return OfDatasets(table=table, query=query, **named)


def _is_template(sql: str) -> bool:
    return any(sign in sql for sign in ("{{", "{%", "{#"))


def _stored(table: Any) -> set[str]:
    """The texts of a dataset in which it may have templates."""
    if table is None:
        return set()
    metrics = [one.expression for one in table.metrics]
    columns = [one.expression for one in table.columns]
    texts = (table.sql, table.fetch_values_predicate, *metrics, *columns)
    return {text for one in texts if one for text in (one, one.strip("\t\r\n; "))}
