"""The validation rules in words, for whoever sent what breaks them."""

from __future__ import annotations

from datetime import UTC, datetime

from tidemark.catalog.observations import Reason
from tidemark.catalog.rules import DAY_MS, RULES, Rules


def rule(reason: Reason, rules: Rules = RULES) -> str:
    """What the rule of that reason asks for, with the bounds in force."""
    match reason:
        case Reason.WITHDRAWN:
            return "a row of a file that has not been withdrawn"
        case Reason.MALFORMED:
            return (
                f"one JSON object in UTF-8 of at most {rules.most_bytes} bytes, without NaN or infinities, "
                f"nested at most {rules.deepest_nesting} levels, with no name longer than {rules.longest_key} characters"
            )
        case Reason.ASIN:
            return f"text that matches {rules.asin}"
        case Reason.TITLE:
            return "text, which may be empty"
        case Reason.STARS:
            return f"a number 0 to {rules.most_stars}"
        case Reason.REVIEWS | Reason.BOUGHT:
            return f"a whole number 0 to {rules.most_count}"
        case Reason.PRICE | Reason.LIST_PRICE:
            return f"a number of dollars, 0 to {rules.most_dollars}"
        case Reason.CATEGORY_ID | Reason.ID:
            return f"a whole number 1 to {rules.most_id}"
        case Reason.BEST_SELLER:
            return "true or false"
        case Reason.DATE:
            earliest = datetime.fromtimestamp(rules.earliest_ms / 1000, UTC).date()
            return (
                "a date as 2023-12-31, 2023-12-31T18:30:00Z, 31/12/2023 18:30 or 31-12-2023 18:30:00, "
                f"not before {earliest} and not more than {rules.ahead_ms / DAY_MS:g} days ahead"
            )
        case Reason.CATEGORY_NAME:
            return f"text of 1 to {rules.most_name} characters"
