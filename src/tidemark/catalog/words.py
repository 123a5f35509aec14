"""Texts for messages: the validation rules, and counts with the right plural."""

from __future__ import annotations

from datetime import UTC, datetime

from tidemark.catalog.observations import Reason
from tidemark.catalog.rules import DAY_MS, RULES, Rules


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 day, 2 days, 1,000 days."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rule(reason: Reason, rules: Rules = RULES) -> str:
    """What the rule behind a reason requires, with the bounds in force."""
    match reason:
        case Reason.WITHDRAWN:
            return "a row of a file, or a post, that has not been withdrawn"
        case Reason.MALFORMED:
            return (
                f"one JSON object in UTF-8 of at most {rules.max_bytes} bytes, without NaN or infinities, "
                f"nested at most {rules.max_nesting} levels, with no key longer than {rules.max_key_length} characters"
            )
        case Reason.ASIN:
            return f"text that matches {rules.asin}"
        case Reason.KEY:
            return "an event whose key is the record's asin"
        case Reason.TITLE:
            return "text, which may be empty"
        case Reason.STARS:
            return f"a number from 0 to {rules.max_stars}"
        case Reason.REVIEWS | Reason.BOUGHT:
            return f"a whole number from 0 to {rules.max_count}"
        case Reason.PRICE | Reason.LIST_PRICE:
            return f"a number of dollars from 0 to {rules.max_dollars}"
        case Reason.CATEGORY_ID | Reason.ID:
            return f"a whole number from 1 to {rules.max_id}"
        case Reason.BEST_SELLER:
            return "true or false"
        case Reason.DATE:
            earliest, ahead = datetime.fromtimestamp(rules.earliest_ms / 1000, UTC).date(), rules.max_ahead_ms / DAY_MS
            return (
                "a date such as 2023-12-31, 2023-12-31T18:30:00Z, 31/12/2023 18:30 or 31-12-2023 18:30:00, "
                f"not before {earliest} and at most {ahead:g} {'day' if ahead == 1 else 'days'} ahead"
            )
        case Reason.CATEGORY_NAME:
            return f"text of 1 to {rules.max_name_length} characters"
