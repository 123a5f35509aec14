"""Native column functions for what package catalog defines in plain Python: headers, numbers, moments. Both must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F

from tidemark.catalog.events import HEADER_NUMBER, MAX_NAME_CHARACTERS
from tidemark.catalog.rules import DateFormat, Rules

# A decimal that holds every number that the rules accept, with twenty decimals. For a number with more decimals a last digit records
# that there are more: rounding half to even and the test for whole numbers depend on nothing else.
_EXACT = "decimal(38,20)"
_MAX_DIGITS_BEFORE_POINT = 12
_DECIMALS_KEPT = 18


def matches(text: Column, pattern: str) -> Column:
    """Does the whole text match the pattern? False for null."""
    return F.coalesce(text.rlike(f"\\A(?:{pattern})\\z"), F.lit(False))


def let(value: Column, body: Callable[[Column], Column]) -> Column:
    """A column made from another, which is evaluated once, however often the body uses it."""
    return F.try_element_at(F.transform(F.array(value), body), F.lit(1))


def header_values(headers: Column) -> Column:
    """Header values by name; of duplicate names the last (this needs transforms.SESSION_OPTIONS)."""
    return F.map_from_entries(headers)


def header(values: Column, name: str) -> Column:
    """A header as text; null if it is absent or not UTF-8."""
    text = F.try_element_at(values, F.lit(name)).cast("string")
    return F.when(F.is_valid_utf8(text), text)


def header_name(values: Column, name: str) -> Column:
    """A header that holds a name; null if it is empty or longer than MAX_NAME_CHARACTERS."""
    text = header(values, name)
    return F.when(F.length(text).between(1, MAX_NAME_CHARACTERS), text)


def header_number(values: Column, name: str) -> Column:
    """A header that holds a whole number; null if it holds anything else."""
    text = F.try_element_at(values, F.lit(name)).cast("string")
    return F.when(matches(text, HEADER_NUMBER), text.try_cast("bigint"))


def exact_numbers(fractions: Mapping[str, Column], integers: Mapping[str, Column], rules: Rules) -> Column:
    """Numbers of any length and exponent, by name; null where the text is not a number. The whole map is null if all have the usual form.

    They are parsed together: with separate expressions for each number, planning would take Spark longer than running a small micro-batch.
    """
    of_fractions, of_integers = ["[0-9]{1,9}(?:\\.[0-9]{1,9})?"] * len(fractions), ["[0-9]{1,9}"] * len(integers)
    texts = [*fractions.values(), *integers.values()]
    written = F.concat(texts[0], *(part for text in texts[1:] for part in (F.lit("|"), text)))  # null if one is
    return F.when(
        ~matches(written, "\\|".join((*of_fractions, *of_integers))),
        F.map_from_arrays(
            F.array(*(F.lit(name) for name in (*fractions, *integers))),
            F.transform(F.array(*texts), lambda text: _exact(text, rules)),
        ),
    )


def scaled(text: Column, exact: Column, name: str, digits: int) -> Column:
    """A number in units of its last significant digit, rounded half to even; null if the text is not a number.

    A number outside every range of the rules becomes some number outside it. `exact` are the exact numbers.
    """
    return F.when(exact.isNull(), _rounded(text.try_cast("decimal(18,9)"), digits)).otherwise(
        _rounded(F.try_element_at(exact, F.lit(name)), digits)
    )


def integer(text: Column, exact: Column, name: str) -> Column:
    """A whole number (including 5.0 and 1.2e3); null if the text is not one. `exact` are the exact numbers."""
    number = F.try_element_at(exact, F.lit(name))
    return F.when(exact.isNull(), text.try_cast("bigint")).otherwise(F.when(number == F.floor(number), number.cast("bigint")))


def double(text: Column) -> Column:
    """The double nearest to the number."""
    return F.trim(text).try_cast("double")


def _rounded(exact: Column, digits: int) -> Column:
    return (F.bround(exact, digits) * F.lit(10**digits)).cast("bigint")


def _exact(text: Column, rules: Rules) -> Column:
    """A number of any length and exponent as a decimal; null if the text is not a number."""

    def from_parts(parts: Column) -> Column:
        sign, whole, fraction, exponent_sign, exponent = (F.try_element_at(parts, F.lit(index)) for index in range(1, 6))
        return let(
            F.struct(
                sign.alias("sign"),
                F.ltrim(F.concat(whole, fraction), F.lit("0")).alias("digits"),
                (_power(exponent_sign, exponent) - F.length(fraction)).alias("power"),
            ),
            _decimal,
        )

    ordered = F.regexp_replace(text, f"\\A(?:{rules.number})\\z", "$1|$2|$3|$4|$5")
    return F.when(matches(text, rules.number), let(F.split(ordered, "\\|"), from_parts))


def _power(sign: Column, digits: Column) -> Column:
    """The exponent of ten. A number whose exponent has more than twelve digits is out of every range, or rounds to 0, in any case."""
    digits = F.ltrim(digits, F.lit("0"))
    power = F.when(F.length(digits) > 12, F.lit(10**12)).otherwise(F.coalesce(digits.try_cast("bigint"), F.lit(0).cast("bigint")))
    return F.when(sign == "-", -power).otherwise(power)


def _decimal(number: Column) -> Column:
    """Sign, digits (without leading zeros) and power of ten, as a decimal of type _EXACT."""
    sign, digits = number["sign"], number["digits"]

    def written(before_point: Column) -> Column:
        most = _MAX_DIGITS_BEFORE_POINT + _DECIMALS_KEPT
        length = F.least(F.lit(most), F.greatest(F.lit(0), before_point + _DECIMALS_KEPT)).cast("int")
        more = F.when(F.length(F.rtrim(digits, F.lit("0"))) > length, "1").otherwise("")
        point = F.greatest(before_point, F.lit(-_DECIMALS_KEPT)).cast("string")
        return (
            F.when(digits == "", F.lit("0"))
            .when(before_point > _MAX_DIGITS_BEFORE_POINT, F.concat(sign, F.lit(str(10**_MAX_DIGITS_BEFORE_POINT))))
            .otherwise(F.concat(sign, F.lit("0."), F.substring(digits, F.lit(1), length), more, F.lit("E"), point))
            .try_cast(_EXACT)
        )

    return let(F.length(digits) + number["power"], written)


def moment(text: Column, rules: Rules) -> Column:
    """A date as milliseconds since 1970 UTC, finer fractions truncated; null if the text is not a date."""
    usual = "[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{3})?Z"
    return F.coalesce(
        F.when(matches(text, usual), F.unix_millis(text.try_cast("timestamp"))),
        let(F.split(F.coalesce(*(_ordered(text, form) for form in rules.date_formats)), "\\|"), _milliseconds),
    )


def _ordered(text: Column, form: DateFormat) -> Column:
    """A date's components in a fixed order, separated by bars; null if the text has another format."""
    groups = (form.year, form.month, form.day, form.hour, form.minute, form.second, form.fraction, form.zone)
    components = "|".join(f"${group}" if group else "" for group in groups)
    return F.when(matches(text, form.pattern), F.regexp_replace(text, f"\\A(?:{form.pattern})\\z", components))


def _milliseconds(parts: Column) -> Column:
    """Milliseconds from year, month, day, hour, minute, second, fraction, zone; each is text and may be empty."""

    def part(index: int) -> Column:
        return F.coalesce(F.try_element_at(parts, F.lit(index)).try_cast("int"), F.lit(0))

    there = F.try_make_timestamp(part(1), part(2), part(3), part(4), part(5), part(6).cast("decimal(8,6)"), F.lit("UTC"))
    fraction = F.rpad(F.substring(F.try_element_at(parts, F.lit(7)), 1, 3), 3, "0").try_cast("int")

    def zone_minutes(zone: Column) -> Column:
        digits = F.rpad(F.regexp_replace(F.substring(zone, 2, 5), ":", ""), 4, "0")
        minutes = F.substring(digits, 1, 2).try_cast("int") * 60 + F.substring(digits, 3, 2).try_cast("int")
        return F.when(zone.isin("", "Z"), F.lit(0)).otherwise(minutes * F.when(F.substring(zone, 1, 1) == "-", -1).otherwise(1))

    return F.unix_millis(there) + F.coalesce(fraction, F.lit(0)) - let(F.try_element_at(parts, F.lit(8)), zone_minutes) * 60_000
