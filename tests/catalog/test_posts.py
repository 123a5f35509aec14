"""Names of posts, and which events they contain."""

from __future__ import annotations

import pytest
from support.wording import Wording

from tidemark.catalog.events import CLIENT, Event
from tidemark.catalog.posts import InvalidPosts, Posts, is_posts, parse

NOON = 1_700_049_600_000  # 2023-11-15T12:00Z
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "posts"),
    [
        ("api/shop/2023-11-15", Posts("shop", NOON - 12 * HOUR, NOON + 12 * HOUR)),
        ("api/shop/2023-11-15T12:00Z/2023-11-15T13:00Z", Posts("shop", NOON, NOON + HOUR)),
        ("api/shop/2023-11-15T13:00:00+01:00/2023-11-15T12:00:00.001", Posts("shop", NOON, NOON + 1)),
        ("api/a.b_c-1/2023-11-15T12/2023-11-16", Posts("a.b_c-1", NOON, NOON + 12 * HOUR)),
    ],
)
def test_posts_are_named_by_client_and_time(text: str, posts: Posts) -> None:
    assert is_posts(text)
    assert parse(text) == parse(str(posts)) == posts


def test_a_full_name_is_in_utc() -> None:
    assert str(Posts("shop", NOON, NOON + HOUR)) == "api/shop/2023-11-15T12:00:00Z/2023-11-15T13:00:00Z"
    assert str(Posts("shop", NOON, NOON + 7)) == "api/shop/2023-11-15T12:00:00Z/2023-11-15T12:00:00.007Z"


@pytest.mark.parametrize(
    "text",
    [
        *("api/", "api/shop", "api//2023-11-15", "api/shop/2023-11-31", "api/shop/yesterday", "api/shop/2023-11-15/", "api/a/b/c/d"),
        *("api/shop/9999-12-31", "api/shop/2023-11-15/2023-11-15", "api/shop/2023-11-15/2023-11-14"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidPosts):
        parse(text)


def test_the_refusal_says_how_posts_are_named(wording: Wording) -> None:
    with pytest.raises(InvalidPosts) as refused:
        parse("api/shop")
    wording.check(str(refused.value))


def test_an_event_is_one_of_the_posts_by_client_and_timestamp() -> None:
    posts = Posts("shop", NOON, NOON + HOUR)

    def contained(timestamp: int, *clients: bytes | None) -> bool:
        return posts.contain(Event("t", 0, 0, timestamp, None, None, tuple((CLIENT, client) for client in clients)))

    assert contained(NOON, b"shop")
    assert contained(NOON + HOUR - 1, b"other", b"shop"), "the last header counts"
    assert not contained(NOON - 1, b"shop")
    assert not contained(NOON + HOUR, b"shop")
    assert not any(contained(NOON, *clients) for clients in ((), (None,), (b"other",), (b"shop", None), (b"shop ",)))
