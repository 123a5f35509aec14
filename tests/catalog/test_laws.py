"""The laws that everything else rests on, each stated once."""

from __future__ import annotations

from functools import reduce
from itertools import permutations
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from support.events import any_event, any_log
from support.recompute import recompute

from tidemark.catalog.cube import MEASURES, Cell, Contribution, added, cell_of, contribution_of, cube_of, label, negated, price_level
from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.observations import CategoryObservation, ProductObservation, Rejection, category_observation, product_observation
from tidemark.catalog.rules import RULES, Rules
from tidemark.catalog.versions import Version

integers = st.integers(-(10**12), 10**12)
contributions = st.builds(Contribution, *([integers] * len(MEASURES)))
cells = st.builds(Cell, st.integers(1, 5), st.sampled_from([None, 0, 5, 295, 300]), st.booleans())
cubes = st.dictionaries(cells, contributions.filter(bool), max_size=6)
events = st.randoms(use_true_random=False).map(any_event)
versions = st.builds(Version, *([st.integers(0, 3)] * 5))
marks = st.dictionaries(st.builds(TopicPartition, st.sampled_from("ab"), st.integers(0, 2)), st.integers(0, 5)).map(TideMark)


def validate(event: Event) -> ProductObservation | CategoryObservation | Rejection:
    return category_observation(event) if event.topic == "ingest-category" else product_observation(event)


def newest(a: Version, b: Version) -> Version:
    return max(a, b)


@given(versions, versions, versions)
def test_newest_wins_is_commutative_associative_and_idempotent(a: Version, b: Version, c: Version) -> None:
    assert newest(a, b) == newest(b, a)
    assert newest(newest(a, b), c) == newest(a, newest(b, c))
    assert newest(a, a) == a


@given(st.lists(versions, min_size=1, max_size=4))
def test_the_result_does_not_depend_on_arrival_order(some: list[Version]) -> None:
    assert len({reduce(newest, order) for order in permutations(some)}) == 1


def test_versions_compare_by_each_field_in_order() -> None:
    lowest = Version(observed_at=1, registered_at=1, position=1, partition=1, offset=1)
    for position, name in enumerate(Version._fields):
        higher = lowest._replace(**{name: 2}, **dict.fromkeys(Version._fields[position + 1 :], 0))
        assert higher > lowest, name


@given(contributions, contributions, contributions)
def test_contributions_form_a_commutative_group(a: Contribution, b: Contribution, c: Contribution) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Contribution() == a
    assert a + -a == Contribution()
    assert a - b == a + -b
    assert bool(a) == (a != Contribution())


@given(cubes, cubes, cubes)
def test_cubes_form_a_commutative_group(a: dict[Cell, Contribution], b: dict[Cell, Contribution], c: dict[Cell, Contribution]) -> None:
    assert added(a, b) == added(b, a)
    assert added(added(a, b), c) == added(a, added(b, c))
    assert added(a, {}) == a
    assert added(a, negated(a)) == {}


@given(st.randoms(use_true_random=False))
def test_replacing_states_one_by_one_gives_the_cube_of_the_last_states(random: Random) -> None:
    states: dict[str, ProductObservation] = {}
    cube: dict[Cell, Contribution] = {}
    for event in any_log(random, 30):
        seen = validate(event)
        if not isinstance(seen, ProductObservation):
            continue
        before = states.get(seen.asin)
        if before is not None and before.version >= seen.version:
            continue
        if before is not None:
            cube = dict(added(cube, {cell_of(before): -contribution_of(before)}))
        cube = dict(added(cube, {cell_of(seen): contribution_of(seen)}))
        states[seen.asin] = seen
    assert cube == cube_of(states.values())


@given(st.integers(0, 100_000_000))
def test_every_price_has_exactly_one_level(cents: int) -> None:
    level = price_level(cents)
    if cents == 0:
        assert level is None
    elif cents >= 30_000:
        assert level == 300
    else:
        assert level is not None
        assert level % 5 == 0
        assert level * 100 <= cents < (level + 5) * 100


def test_labels_of_price_levels() -> None:
    assert [label(level) for level in (None, 0, 5, 295, 300)] == ["unknown", "$0-5", "$5-10", "$295-300", "$300+"]


@given(marks, marks, marks)
def test_marks_form_a_lattice(a: TideMark, b: TideMark, c: TideMark) -> None:
    assert a.joined(b) == b.joined(a)
    assert a.joined(b).joined(c) == a.joined(b.joined(c))
    assert a.joined(a) == a
    assert a.joined(b).reaches(a)
    assert a.reaches(b) == (a.joined(b) == a)
    assert (a.behind(b) == 0) == a.reaches(b)


@given(marks, st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 6))
def test_a_mark_excludes_its_own_offset(mark: TideMark, topic: str, partition: int, offset: int) -> None:
    event = Event(topic, partition, offset, 0, None, None)
    assert mark.covers(event) == (offset < mark[TopicPartition(topic, partition)])


@given(events)
def test_validation_agrees_with_the_oracle_on_every_event(event: Event) -> None:
    seen, expected = validate(event), recompute([event])
    match seen:
        case Rejection():
            assert expected.rejections == {(event.source, seen.reason.value)}
        case CategoryObservation():
            assert expected.categories == {seen.id: seen.name}
        case ProductObservation():
            measures = contribution_of(seen)
            assert expected.cube == {cell_of(seen): {name: getattr(measures, name) for name in MEASURES}}
            product = expected.products[seen.asin]
            assert (product["title"], product["stars"], product["price"], product["listPrice"]) == (
                seen.title, seen.stars, seen.price, seen.list_price,
            )  # fmt: skip
            assert (product["imgUrl"], product["productURL"]) == (seen.img_url, seen.product_url)


def test_the_fingerprint_changes_with_the_rules() -> None:
    assert Rules().fingerprint() == RULES.fingerprint()
    assert Rules(level_dollars=10).fingerprint() != RULES.fingerprint()
    assert Rules(edition=RULES.edition + 1).fingerprint() != RULES.fingerprint()
