"""Bodies of the API: each is split and validated in time linear in its size, also one that is made to be slow."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tidemark.ingest.api.bodies import Form, InvalidBatch, records
from tidemark.ingest.api.validation import Validator
from tidemark.ingest.files import FileKind

TIMES = 8  # a linear function takes 8 times as long, a quadratic one 64 times
AT_MOST = 24
SMALL, LARGE = 16_384, 65_536  # bytes; a record of more than 50,000 is also searched for long names


def unended_string_of_escapes(size: int) -> bytes:
    return b'["' + b'\\"' * (size // 2)


def unended_string(size: int) -> bytes:
    return b'[{"' + b"x" * size


def unended_string_in_each_object(size: int) -> bytes:
    return b'[{"a":1}' + b',{"a":"\\"}' * (size // 10)


def unended_objects(size: int) -> bytes:
    return b"[" + b'{"a":1,' * (size // 7)


def unended_object(size: int) -> bytes:
    return b"[{" + b'"a":1,' * (size // 6)


def nested_brackets(size: int) -> bytes:
    return b"[" * (size // 2) + b"]" * (size // 2)


def unended_brackets(size: int) -> bytes:
    return b"[{" * (size // 2)


def brackets_in_strings(size: int) -> bytes:
    return b"[" + b'"[{",' * (size // 5) + b"1]"


def commas(size: int) -> bytes:
    return b"[" + b"," * size


def names_given_twice(size: int) -> bytes:
    names = [b'"%05x":1' % number for number in range(size // 20)]
    return b"{" + b",".join(names * 2) + b"}"


def one_name_given_often(size: int) -> bytes:
    return b"{" + b",".join([b'"a":1'] * (size // 6)) + b"}"


def nested_objects(size: int) -> bytes:
    return b'{"a":' * (size // 5)


def digits(size: int) -> bytes:
    return b'{"stars":' + b"9" * size + b"}"


def split(body: bytes) -> None:
    with suppress(InvalidBatch):
        for _ in records(body, Form.JSON):
            pass


def validated(body: bytes) -> None:
    Validator(FileKind.PRODUCT, 0, 0)(body)


def cpu_seconds(work: Callable[[bytes], None], body: bytes) -> float:
    """The shortest of several runs, each long enough to be measured."""
    repeats = 1
    while True:
        shortest = min(_timed(work, body, repeats) for _ in range(3))
        if shortest >= 0.001:
            return shortest / repeats
        repeats *= 4


def _timed(work: Callable[[bytes], None], body: bytes, repeats: int) -> float:
    """Without the garbage collector, which also looks at what other tests have left."""
    gc.disable()
    try:
        started = time.process_time()
        for _ in range(repeats):
            work(body)
        return time.process_time() - started
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "attack",
    [
        unended_string_of_escapes,
        unended_string,
        unended_string_in_each_object,
        unended_objects,
        unended_object,
        nested_brackets,
        unended_brackets,
        brackets_in_strings,
        commas,
    ],
)
def test_a_batch_is_split_in_linear_time(attack: Callable[[int], bytes]) -> None:
    assert cpu_seconds(split, attack(TIMES * SMALL)) < AT_MOST * cpu_seconds(split, attack(SMALL))


@pytest.mark.parametrize("attack", [names_given_twice, one_name_given_often, nested_objects, digits, unended_string_of_escapes])
def test_a_record_is_validated_in_linear_time(attack: Callable[[int], bytes]) -> None:
    assert cpu_seconds(validated, attack(TIMES * LARGE)) < AT_MOST * cpu_seconds(validated, attack(LARGE))
