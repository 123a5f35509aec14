"""Converts LIKE patterns to regular expressions. Converts case as SQL does: code point by code point, for all of Unicode."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache

from mongopipe.errors import NotSupportedError, ProgrammingError

_LAST_CASED = 0x1E943  # the last letter that has another case


class Fold(Enum):
    """The conversion of a string before it is compared with a pattern."""

    NONE = ""
    LOWER = "lower"
    UPPER = "upper"


@cache
def case_pairs(fold: Fold) -> dict[str, str]:
    """Returns the letters that `fold` changes to one other letter, with that letter."""
    pairs = {}
    for code in range(_LAST_CASED + 1):
        letter = chr(code)
        changed = letter.lower() if fold is Fold.LOWER else letter.upper()
        if changed != letter and len(changed) == 1:
            pairs[letter] = changed
    return pairs


@cache
def _sources(fold: Fold) -> dict[str, str]:
    """Returns the inverse of case_pairs: for each result the letters that `fold` changes to it."""
    found: dict[str, str] = {}
    for letter, changed in case_pairs(fold).items():
        found[changed] = found.get(changed, "") + letter
    return found


def folded(text: str, fold: Fold) -> str:
    """Returns the text in lower or upper case. The length stays the same."""
    pairs = case_pairs(fold)
    return "".join(pairs.get(letter, letter) for letter in text)


def _letter(letter: str, fold: Fold) -> str:
    """Returns a regular expression for the letters that `fold` changes to `letter`."""
    if fold is Fold.NONE:
        return re.escape(letter)
    itself = "" if letter in case_pairs(fold) else letter
    options = itself + _sources(fold).get(letter, "")
    if not options:
        return "(?!)"
    return re.escape(options) if len(options) == 1 else f"[{options}]"


def like_regex(pattern: str, escape: str | None, fold: Fold = Fold.NONE) -> str:
    """Returns a PCRE (options: s) that matches exactly the strings that, after `fold`, are LIKE the pattern.

    For a pattern with a literal prefix the expression starts with ^ and this prefix, so that MongoDB can use an index.
    Raises ProgrammingError if the pattern ends with the escape character, and NotSupportedError if it has a NUL character.
    """
    if "\0" in pattern:
        raise NotSupportedError("a NUL character in a LIKE pattern is not supported")
    parts: list[str | None] = []  # None stands for any sequence of characters
    letters = iter(pattern)
    for letter in letters:
        if letter == escape:
            literal = next(letters, None)
            if literal is None:
                raise ProgrammingError("a LIKE pattern must not end with the escape character")
            parts.append(_letter(literal, fold))
        elif letter == "%":
            if parts[-1:] != [None]:
                parts.append(None)
        else:
            parts.append("." if letter == "_" else _letter(letter, fold))
    if parts == [None]:
        return ""
    start = "" if parts[:1] == [None] else "^"
    end = "" if parts[-1:] == [None] else r"\z"
    inner = parts[1 if not start else 0 : -1 if not end else None]
    return start + "".join(".*" if part is None else part for part in inner) + end
