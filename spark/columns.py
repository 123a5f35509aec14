"""Native column functions for what catalog/ defines in plain Python: headers, numbers, moments. They must give the same."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from catalog.events import HEADER_NUMBER
from catalog.rules import DateFormat, Rules

# A decimal that holds every number the rules let pass with twenty decimals. A number with more keeps a last digit that
# says "and something more", which is all that rounding half to even and being whole can depend on.
_EXACT = "decimal(38,20)"
_MOST_DIGITS_BEFORE_POINT = 12
_DECIMALS_KEPT = 18


def matches(text: Column, pattern: str) -> Column:
    """Is the whole text of that form? False where there is none."""
    return F.coalesce(text.rlike(f"\\A(?:{pattern})\\z"), F.lit(False))


def header(headers: Column, name: str) -> Column:
    """The last header of that name as text; null where there is none or it is not UTF-8."""
    named = F.filter(headers, lambda one: one["key"] == name)
    text = F.try_element_at(named, F.lit(-1))["value"].cast("string")
    return F.when(F.is_valid_utf8(text), text)


def header_number(headers: Column, name: str) -> Column:
    """A header that holds a whole number; null where it holds anything else."""
    text = header(headers, name)
    return F.when(matches(text, HEADER_NUMBER), text.try_cast("bigint"))


def scaled(text: Column, rules: Rules, digits: int) -> Column:
    """A number's value in units of its last counted digit, rounded half to even; null where the text is no number.

    Out of every range of the rules, it is some number out of it.
    """
    return F.coalesce(
        F.when(matches(text, "[0-9]{1,9}(?:\\.[0-9]{1,9})?"), _rounded(text.try_cast("decimal(18,9)"), digits)),
        _rounded(_exact(text, rules), digits),
    )


def integer(text: Column, rules: Rules) -> Column:
    """A whole number (5.0 and 1.2e3 are); null where the text is none."""
    exact = _exact(text, rules)
    return F.coalesce(
        F.when(matches(text, "[0-9]{1,9}"), text.try_cast("bigint")),
        F.when(exact == F.floor(exact), exact.cast("bigint")),
    )


def double(text: Column) -> Column:
    """The double nearest to a number's text."""
    return F.trim(text).try_cast("double")


def _rounded(exact: Column, digits: int) -> Column:
    return (F.bround(exact, digits) * 10**digits).cast("bigint")


def _exact(text: Column, rules: Rules) -> Column:
    """A number of any length and exponent as a decimal; null where the text is no number."""

    def part(group: int) -> Column:
        return F.regexp_extract(text, f"\\A(?:{rules.number})\\z", group)

    sign, whole, fraction, exponent_sign, exponent_digits = (part(group) for group in range(1, 6))
    digits = F.ltrim(F.concat(whole, fraction), F.lit("0"))
    exponent_digits = F.ltrim(exponent_digits, F.lit("0"))
    exponent = F.when(F.length(exponent_digits) > 12, F.lit(10**12)).otherwise(
        F.coalesce(exponent_digits.try_cast("bigint"), F.lit(0).cast("bigint"))
    )
    exponent = F.when(exponent_sign == "-", -exponent).otherwise(exponent)
    before_point = F.length(digits) - F.length(fraction) + exponent
    length = F.greatest(F.lit(0), before_point + _DECIMALS_KEPT).cast("int")
    kept = F.substring(digits, F.lit(1), length)
    more = F.when(F.length(F.rtrim(digits, F.lit("0"))) > length, "1").otherwise("")
    point = F.greatest(before_point, F.lit(-_DECIMALS_KEPT))
    written = F.concat(sign, F.lit("0."), kept, more, F.lit("E"), point.cast("string"))
    return F.when(
        matches(text, rules.number),
        F.when(digits == "", F.lit("0"))
        .when(before_point > _MOST_DIGITS_BEFORE_POINT, F.concat(sign, F.lit(str(10**_MOST_DIGITS_BEFORE_POINT))))
        .otherwise(written)
        .try_cast(_EXACT),
    )


def moment(text: Column, rules: Rules) -> Column:
    """Milliseconds since 1970 UTC that a date says, what is finer cut off; null where the text is no date."""
    return F.coalesce(*(_moment(text, form) for form in rules.date_formats))


def _moment(text: Column, form: DateFormat) -> Column:
    groups = (form.year, form.month, form.day, form.hour, form.minute, form.second, form.fraction, form.zone)
    pattern = f"\\A(?:{form.pattern})\\z"
    # One replacement puts the components into one order, whatever the format's.
    ordered = F.regexp_replace(text, pattern, "|".join(f"${group}" if group else "" for group in groups))
    parts = F.split(ordered, "\\|")

    def part(index: int) -> Column:
        return F.coalesce(F.try_element_at(parts, F.lit(index + 1)).try_cast("int"), F.lit(0))

    there = F.try_make_timestamp(part(0), part(1), part(2), part(3), part(4), part(5).cast("decimal(8,6)"), F.lit("UTC"))
    fraction = F.rpad(F.substring(F.try_element_at(parts, F.lit(7)), 1, 3), 3, "0").try_cast("int")
    zone = F.try_element_at(parts, F.lit(8))
    zone_digits = F.rpad(F.regexp_replace(F.substring(zone, 2, 5), ":", ""), 4, "0")
    minutes = F.when(zone.isin("", "Z"), F.lit(0)).otherwise(
        (F.substring(zone_digits, 1, 2).try_cast("int") * 60 + F.substring(zone_digits, 3, 2).try_cast("int"))
        * F.when(F.substring(zone, 1, 1) == "-", -1).otherwise(1)
    )
    milliseconds = F.unix_millis(there) + F.coalesce(fraction, F.lit(0)) - F.coalesce(minutes, F.lit(0)) * 60_000
    return F.when(matches(text, form.pattern), milliseconds)
