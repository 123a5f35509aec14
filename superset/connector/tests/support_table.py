"""The README's table of supported SQL. It has a row for each construct; test_support compares each example with DuckDB.

`python tests/support_table.py` writes the table between the README's two markers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
START, END = "<!-- support -->\n", "<!-- /support -->\n"


@dataclass(frozen=True)
class Feature:
    """A construct with example expressions or queries. An expression stands for SELECT _id, expression FROM item."""

    name: str
    examples: tuple[str, ...]

    @property
    def queries(self) -> list[str]:
        """The examples as complete statements."""
        heads = ("SELECT ", "WITH ")
        return [each if each.startswith(heads) else f"SELECT _id, {each} AS x FROM item" for each in self.examples]


FEATURES = (
    Feature("Expressions, aliases", ("SELECT price * 2 AS p, small % 3, -small FROM item", "price / 0", "1.5 + small")),
    Feature("Column names with dots, spaces, dollars", ('"place.city"', '"$odd [x]"', '"we.ird"', '"Group Id"')),
    Feature("WHERE, AND, OR, NOT", ("SELECT _id FROM item WHERE price > 3 AND NOT (small = 1 OR flag)",)),
    Feature("BETWEEN, IN, NOT IN", ("price BETWEEN 1 AND 5", "code IN ('B07', 'Z')", "small NOT IN (1, NULL)")),
    Feature(
        "IS NULL, IS TRUE, IS FALSE, IS DISTINCT FROM",
        ("title IS NOT NULL", "flag IS NOT TRUE", "flag IS FALSE", "price IS DISTINCT FROM cost"),
    ),
    Feature("LIKE, ILIKE, ESCAPE", ("title LIKE 'B%'", "title NOT ILIKE '%ü%'", "title LIKE '%5!%' ESCAPE '!'", "LOWER(code) LIKE 'b0_'")),
    Feature(
        "CASE, IF, COALESCE, NULLIF",
        ("CASE small WHEN 1 THEN 'one' ELSE 'more' END", "COALESCE(price, cost)", "NULLIF(small, 1)", "IF(flag, 1, 2)"),
    ),
    Feature("CAST, TRY_CAST, ::", ("CAST(small AS DOUBLE)", "TRY_CAST(code AS BIGINT)", "small::VARCHAR", "CAST(seen AS DATE)")),
    Feature(
        "Numbers", ("ABS(small)", "CEIL(price)", "FLOOR(price)", "ROUND(price, 1)", "SIGN(price)", "SQRT(ABS(price))", "POWER(small, 2)")
    ),
    Feature(
        "More numbers",
        ("LN(ABS(small) + 1)", "LOG10(ABS(small) + 1)", "EXP(small)", "TRUNC(price)", "GREATEST(price, small)", "LEAST(price, 1)"),
    ),
    Feature(
        "Text", ("UPPER(title)", "LOWER(title)", "LENGTH(title)", "SUBSTRING(code, 2, 3)", "LEFT(code, 2)", "RIGHT(code, 2)", "code || '!'")
    ),
    Feature(
        "More text",
        (
            "TRIM(title)",
            "REPLACE(code, 'B', 'x')",
            "POSITION('0' IN code)",
            "SPLIT_PART(code, '-', 2)",
            "CONCAT(code, title)",
            "STARTS_WITH(code, 'B')",
            "CONTAINS(code, '0')",
        ),
    ),
    Feature(
        "Dates",
        ("DATE_TRUNC('week', seen)", "EXTRACT(YEAR FROM seen)", "seen + INTERVAL '3' MONTH", "DATE_DIFF('day', seen, sold)", "YEAR(seen)"),
    ),
    Feature("Arrays", ("SELECT _id, tags FROM item", "ARRAY_CONTAINS(tags, 'red')")),
    Feature(
        "GROUP BY, HAVING",
        (
            "SELECT small, COUNT(*) FROM item GROUP BY small HAVING COUNT(*) > 2",
            "SELECT FLOOR(price / 5), flag, MAX(title) FROM item GROUP BY FLOOR(price / 5), flag",
            "SELECT COUNT(*), SUM(price) FROM item WHERE _id < 0",
        ),
    ),
    Feature(
        "COUNT, SUM, AVG, MIN, MAX, DISTINCT, FILTER",
        (
            "SELECT COUNT(price), SUM(price), AVG(price), MIN(title), MAX(seen) FROM item",
            "SELECT flag, COUNT(DISTINCT code), COUNT(DISTINCT title), SUM(DISTINCT small) FROM item GROUP BY flag",
            "SELECT COUNT(*) FILTER (WHERE flag), SUM(price) FILTER (WHERE small > 1) FROM item",
        ),
    ),
    Feature(
        "STDDEV, VARIANCE, MEDIAN, PERCENTILE_CONT, PERCENTILE_DISC",
        (
            "SELECT STDDEV(price), STDDEV_POP(price), VARIANCE(price), VAR_POP(price), MEDIAN(price) FROM item",
            "SELECT flag, PERCENTILE_CONT(0.9) WITHIN GROUP (ORDER BY price) FROM item GROUP BY flag",
            "SELECT flag, PERCENTILE_DISC(0.9) WITHIN GROUP (ORDER BY price) FROM item GROUP BY flag",
        ),
    ),
    Feature(
        "ORDER BY, NULLS FIRST and LAST, LIMIT, OFFSET",
        (
            "SELECT _id FROM item ORDER BY price DESC NULLS FIRST, _id LIMIT 5 OFFSET 2",
            "SELECT code FROM item GROUP BY code ORDER BY COUNT(*), code LIMIT 3",
        ),
    ),
    Feature("DISTINCT", ("SELECT DISTINCT code, flag FROM item",)),
    Feature(
        "Subqueries and WITH in FROM",
        (
            "SELECT c FROM (SELECT code AS c, price FROM item) AS v WHERE price > 3",
            "WITH v AS (SELECT code FROM item) SELECT COUNT(*) FROM v",
        ),
    ),
    Feature("UNION ALL, UNION", ('SELECT small FROM item UNION SELECT key FROM "group" ORDER BY small LIMIT 3',)),
    Feature(
        "IN, EXISTS and single values by subquery",
        (
            'SELECT _id FROM item WHERE small IN (SELECT key FROM "group")',
            'SELECT _id FROM item AS i WHERE NOT EXISTS (SELECT 1 FROM "group" AS g WHERE g.key = i.small)',
            "SELECT _id FROM item WHERE price > (SELECT AVG(price) FROM item)",
        ),
    ),
    Feature(
        "JOIN, LEFT JOIN, RIGHT JOIN, CROSS JOIN, USING",
        (
            'SELECT i._id, g.label FROM item AS i JOIN "group" AS g ON i.small = g.key AND i.price > g.weight',
            'SELECT i._id, g.label FROM item AS i LEFT JOIN "group" AS g ON i.small = g.key AND i._id = g._id',
            'SELECT g.label, COUNT(*) FROM item AS i JOIN "group" AS g ON i.small = g.key GROUP BY g.label',
            'SELECT COUNT(*) FROM item CROSS JOIN "group"',
            'SELECT i._id, g.label FROM item AS i RIGHT JOIN "group" AS g ON i._id = g.key',
            'SELECT COUNT(*) FROM item JOIN "group" USING (_id)',
        ),
    ),
    Feature(
        "Window functions",
        (
            "SELECT _id, ROW_NUMBER() OVER (PARTITION BY flag ORDER BY price, _id) FROM item",
            "SELECT _id, RANK() OVER (ORDER BY price), DENSE_RANK() OVER (ORDER BY price DESC) FROM item",
            "SELECT _id, LAG(price) OVER (ORDER BY _id), LEAD(price, 2, 0) OVER (ORDER BY _id) FROM item",
            "SELECT _id, SUM(cost) OVER (ORDER BY small), AVG(price) OVER (PARTITION BY flag) FROM item",
            "SELECT _id, MAX(cost) OVER (ORDER BY _id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM item",
            "SELECT _id, FIRST_VALUE(code) OVER w FROM item WINDOW w AS (ORDER BY _id)",
        ),
    ),
)


def table() -> str:
    """Renders the table as Markdown."""

    def cell(example: str) -> str:
        return "`" + example.replace("|", "\\|") + "`"

    rows = [f"| {feature.name} | {'<br>'.join(cell(example) for example in feature.examples)} |" for feature in FEATURES]
    return "\n".join(["| construct | tested examples |", "| --- | --- |", *rows]) + "\n"


def written() -> str:
    """Returns the README with the current table."""
    before, _, rest = README.read_text().partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(written())
