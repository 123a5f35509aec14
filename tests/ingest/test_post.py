"""The client before a real API: every row is accepted or refused by name, whatever falls in between."""

from __future__ import annotations

import csv
import fcntl
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson
import pytest
from support.apis import Api, api
from support.environment import setting, variables
from support.lost_answers import losing
from support.places import Place, a_place
from support.recompute import CsvFile, recompute, recompute_files
from support.servers import free_ports
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.ingest.files import PRODUCT_COLUMNS
from tidemark.ingest.generate import day_rows
from tidemark.ingest.post import ACCEPTED, REFUSED, STOPPED, main, typed

pytestmark = pytest.mark.servers

DATE = "2023-12-31"
_seeds = count(1)


@pytest.fixture(scope="module")
def place(servers: None) -> Iterator[Place]:
    with a_place() as found:
        yield found


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Api]:
    with api() as found:
        yield found


def arguments(file: Path, url: str, *more: str, kind: str = "product") -> list[str]:
    return [str(file), "--kind", kind, *(("--date", DATE) if kind == "product" else ()), "--url", url, "--patience", "60", *more]


def started(file: Path, url: str, *more: str) -> subprocess.Popen[str]:
    """The client as a process of its own."""
    command = [sys.executable, "-m", "tidemark.ingest.post", *arguments(file, url, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Done(NamedTuple):
    status: int
    output: str


Run = Callable[..., Done]


@pytest.fixture
def post(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the client in this process."""

    def run(*given: Any, **named: Any) -> Done:
        try:
            status = main(arguments(*given, **named))
        except SystemExit as end:
            status = int(end.code or 0)
        output = capsys.readouterr()
        return Done(status, output.out + output.err)

    return run


def catalog(folder: Path, rows: int) -> Path:
    """A file of products like no other test's, with rows that break rules, some seen twice, and some that are no text."""
    file = folder / "products.csv"
    with file.open("w", encoding="latin-1", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(PRODUCT_COLUMNS)
        random = Random(next(_seeds))
        for number, row in enumerate(day_rows(rows, random.randrange(10**6), day=0)):
            fields = [field.encode().decode("latin-1") for field in row]
            match number % 97:
                case 3:
                    fields.append("one more")
                case 5:
                    fields[1] = "\xff no UTF-8"
                case 7:
                    fields[6] = random.choice(("", "-1", "12.345.6", "1e9", " 7 ", "+8", "007", "NaN"))
                case 11:
                    fields[9] = random.choice(("TRUE", "false", "yes"))
            writer.writerow(fields)
            if number % 50 == 0:
                out.write("\r\n")
    return file


def refused_rows(file: Path) -> list[list[str]]:
    with Path(f"{file}.refused.csv").open(encoding="latin-1", newline="") as refused:
        return list(csv.reader(refused))


def unanswered(output: str, url: str) -> list[str]:
    """Lines that tell of an API that gave no answer: they name it, and no status."""
    return [line for line in output.splitlines() if url in line and not re.search(" [45][0-9][0-9]: ", line)]


def progress(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{file}.progress.json").read_text())
    return found


def of_file(file: Path, place: Place) -> list[Event]:
    """Events of the file's products, told from those of other files by their ASINs."""
    with file.open(encoding="latin-1", newline="") as rows:
        asins = {row[0].encode() for row in csv.reader(rows) if row}
    return [event for event in place.log() if event.key in asins]


def is_settled(file: Path, place: Place) -> list[Event]:
    """Asserts that the log says of the file's products what the file says, and that what was refused is what the oracle refuses."""
    expected, events = recompute_files([CsvFile(file, "product", DATE, 1)]), of_file(file, place)
    found = recompute(events, place.settings.category_topic)
    assert found.rejections == set()
    assert dict(found.products) == dict(expected.products)
    header, *rows = refused_rows(file)
    assert header == ["refused_byte", "refused_field", "refused_why", *PRODUCT_COLUMNS]
    wrong = [(int(row[0]), row[1] or "malformed") for row in rows]
    assert wrong == sorted((position, reason) for (_, position), reason in expected.rejections)
    assert all(row[2] for row in rows)
    now = progress(file)
    assert (now["accepted"], now["refused"]) == (expected.records - len(wrong), len(wrong))
    assert now["position"] <= file.stat().st_size
    return events


def test_rows_become_typed_json_with_unchanged_numbers() -> None:
    fields = ["B0T0000001", "NULL", "", "", "4.50", "12", "0.10", "1e2", "007", "True", "+5"]
    assert typed(PRODUCT_COLUMNS, fields, "2023-12-31T00:00:00.000Z") == (
        b'{"asin":"B0T0000001","title":"NULL","imgUrl":"","productURL":"","stars":4.50,"reviews":12,"price":0.10,"listPrice":1e2,'
        b'"category_id":"007","isBestSeller":true,"boughtInLastMonth":"+5","date":"2023-12-31T00:00:00.000Z"}'
    )
    assert typed(("id", "category_name", "more"), ["7", "5", "6"], None) == b'{"id":7,"category_name":"5","more":"6"}'


def test_every_row_is_accepted_or_listed_as_refused(place: Place, running: Api, post: Run, tmp_path: Path, wording: Wording) -> None:
    file = catalog(tmp_path, 3_000)
    done = post(file, running.url, "--batch", "700")
    assert done.status == REFUSED, done.output
    events = is_settled(file, place)
    assert len(events) == progress(file)["accepted"]
    assert {dict(event.headers)["tide-source"] for event in events} == {b"api"}
    accepted, refused = f"{progress(file)['accepted']:,}", f"{progress(file)['refused']:,}"

    def shown(lines: list[str]) -> str:
        return "\n".join(lines).replace(str(tmp_path), "<folder>")

    wording.check(shown(done.output.splitlines()[-2:]), accepted=accepted, refused=refused)
    assert all(isinstance(orjson.loads(event.value or b"")["reviews"], int) for event in events)
    # Once more, and nothing is sent.
    again = post(file, running.url)
    assert (again.status, len(of_file(file, place))) == (REFUSED, len(events))
    wording.check(shown(again.output.splitlines()), "again", accepted=accepted, refused=refused)


def test_corrected_rows_are_posted_from_the_file_of_refused_rows(place: Place, running: Api, post: Run, tmp_path: Path) -> None:
    file = catalog(tmp_path, 300)
    assert post(file, running.url).status == REFUSED
    header, *rows = refused_rows(file)
    corrected = [[*row[: 3 + len(PRODUCT_COLUMNS)], *["0"] * (3 + len(PRODUCT_COLUMNS) - len(row))] for row in rows]
    for row in corrected:
        row[3:5], row[7:12] = [row[3].upper(), "corrected"], ["4", "5", "6", "7", "8"]
        row[12] = "False"
    refused = Path(f"{file}.refused.csv")
    with refused.open("w", encoding="latin-1", newline="") as out:
        csv.writer(out).writerows([header, *corrected[:-1], [*corrected[-1], "too many"]])
    assert post(refused, running.url).status == REFUSED
    assert (progress(refused)["accepted"], progress(refused)["refused"]) == (len(corrected) - 1, 1)
    events = [event for event in of_file(file, place) if orjson.loads(event.value or b"")["title"] == "corrected"]
    assert [set(orjson.loads(event.value or b"")) for event in events] == [{*PRODUCT_COLUMNS, "date"}] * (len(corrected) - 1)
    assert refused_rows(refused)[0] == header


def test_valid_categories_are_all_accepted(place: Place, running: Api, post: Run, tmp_path: Path) -> None:
    file = tmp_path / "categories.csv"
    file.write_text("\ufeffid,category_name\n1,Café\n2,Bags\n2,Luggage\n")
    done = post(file, running.url, kind="category")
    assert (done.status, Path(f"{file}.refused.csv").exists()) == (ACCEPTED, False), done.output
    found = recompute(place.log(), place.settings.category_topic)
    assert found.categories == {1: "Café", 2: "Luggage"}


def test_after_each_kill_it_resumes_where_it_stopped(place: Place, running: Api, post: Run, tmp_path: Path, wording: Wording) -> None:
    """Of the batches whose answer was written down none is sent again: each kill repeats at most the one under way."""
    file, kills, batch = catalog(tmp_path, 3_000), 3, 25
    random, positions = Random(5), [0]
    for _ in range(kills):
        doomed = started(file, running.url, "--batch", str(batch))
        until = time.monotonic() + 60
        pause_at = positions[-1] + random.randint(20_000, 60_000)
        while not (Path(f"{file}.progress.json").exists() and progress(file)["position"] > pause_at):
            assert doomed.poll() is None, "it ended before it was killed"
            assert time.monotonic() < until
            time.sleep(0.002)
        doomed.kill()
        doomed.wait()
        with Path(f"{file}.refused.csv").open("ab") as refused:
            refused.write(b"rows that no progress counts\n")
        positions.append(progress(file)["position"])
        assert not progress(file)["finished"]
    settled = progress(file)["accepted"] + progress(file)["refused"]
    done = post(file, running.url, "--batch", str(batch))
    assert done.status == REFUSED, done.output
    wording.check(done.output.splitlines()[0], settled=f"{settled:,}")
    events = is_settled(file, place)
    assert 0 <= len(events) - progress(file)["accepted"] <= kills * batch
    assert positions == sorted(positions)


def test_batches_with_lost_answers_are_repeated_without_effect(place: Place, running: Api, post: Run, tmp_path: Path) -> None:
    file = catalog(tmp_path, 1_200)
    with losing(running.url, lambda number: number % 3 == 1) as proxy:
        done = post(file, proxy.url, "--batch", "200")
        assert done.status == REFUSED, done.output
        assert proxy.swallowed >= 2
    assert len(unanswered(done.output, proxy.url)) >= 2
    events = is_settled(file, place)
    repeats = Counter((event.key, event.value) for event in events)
    assert len(events) > progress(file)["accepted"]
    assert max(repeats.values()) > 1


def test_it_waits_while_the_api_starts_or_restarts(place: Place, tmp_path: Path) -> None:
    file, port = catalog(tmp_path, 5_000), free_ports(1)[0]
    client = started(file, f"http://127.0.0.1:{port}", "--batch", "50")
    with api(port=port) as first:
        until = time.monotonic() + 60
        while not (Path(f"{file}.progress.json").exists() and progress(file)["accepted"] > 100):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert first.stop() == 0
    assert client.poll() is None, "it ended before the API was stopped"
    with api(port=port):
        output, _ = client.communicate(timeout=100)
    assert client.returncode == REFUSED, output
    assert unanswered(output, f"http://127.0.0.1:{port}")
    is_settled(file, place)


def test_too_large_batches_are_split(place: Place, post: Run, tmp_path: Path, wording: Wording) -> None:
    file = catalog(tmp_path, 200)
    with file.open("a") as out:
        out.write(",".join(["B0T0000000", "x" * 9_000, "", "", "1", "1", "1", "1", "1", "True", "1"]) + "\n")
    with api(api_body_bytes="8000") as small:
        done = post(file, small.url)
    assert done.status == REFUSED, done.output
    field, why, asin = refused_rows(file)[-1][1:4]
    assert (field, asin) == ("", "B0T0000000")
    wording.check(why)
    assert progress(file)["accepted"] == len(of_file(file, place)) > 150


def test_each_fatal_error_names_a_remedy(running: Api, post: Run, tmp_path: Path, wording: Wording) -> None:
    file = catalog(tmp_path, 60)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"

    def check_message(label: str, done: Done, status: int = STOPPED) -> None:
        """Each line once, and the last one alone where the command's usage stands before it."""
        assert done.status == status, done.output
        lines = list(dict.fromkeys(line for line in done.output.splitlines() if line))
        wording.check("\n".join(lines[-1:] if status == 2 else lines), label, api=running.url, nobody=nobody)

    check_message("no answer", post(file, nobody, "--patience", "2"))
    check_message("no such API", post(file, f"{running.url}/elsewhere"))
    check_message("no such file", post(tmp_path / "none.csv", running.url))
    for url in ("nothing", "ftp://127.0.0.1", "http://", "127.0.0.1:8000"):
        check_message(f"--url {url}", post(file, url), 2)
    wrong = tmp_path / "wrong.csv"
    for text, what in (("", "empty"), ("a,b\n1,2\n", "another header"), (",".join(PRODUCT_COLUMNS) + ",date\n", "a date")):
        wrong.write_text(text)
        check_message(what, post(wrong, running.url))
    wrong.write_text(",".join(PRODUCT_COLUMNS) + '\n"' + "x" * 2_000_000)
    check_message("a record without an end", post(wrong, running.url))
    check_message("--batch", post(file, running.url, "--batch", "10001"), 2)
    for date in ("yesterday", "1990-01-01", "2123-01-01", "2023-02-30"):
        check_message(f"--date {date}", post(file, running.url, "--date", date), 2)

    assert post(file, running.url).status == REFUSED
    check_message("another url", post(file, nobody))
    check_message("another date", post(file, running.url, "--date", "2023-01-01"))
    with file.open("a") as out:
        out.write("\n")
    check_message("another content", post(file, running.url))
    assert post(file, running.url, "--again").status == REFUSED
    Path(f"{file}.progress.json").write_text("{")
    check_message("progress that is not readable", post(file, running.url))
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        check_message("another process", post(file, running.url, "--again"))


@pytest.mark.parametrize(
    "given",
    [["--kind", "product"], ["--kind", "category", "--date", DATE], []],
    ids=["a product without", "a category with one", "of no kind"],
)
def test_products_require_a_date_and_categories_have_none(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], wording: Wording
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "file.csv"), *given])
    assert ended.value.code == 2
    *_, output = capsys.readouterr().err.splitlines()
    wording.check(output)


def test_an_invalid_setting_is_named(post: Run, tmp_path: Path) -> None:
    with variables(api_port="none"):
        done = post(tmp_path / "file.csv", "http://127.0.0.1:8000")
    assert (done.status, "TIDEMARK_API_PORT=none" in done.output) == (STOPPED, True)


def test_the_api_key_comes_from_the_settings(place: Place, post: Run, tmp_path: Path) -> None:
    file = tmp_path / "categories.csv"
    file.write_text("id,category_name\n3,Keys\n")
    with api(api_key="a secret ü") as locked:
        without = post(file, locked.url, kind="category")
        assert (without.status, "TIDEMARK_API_KEY" in without.output) == (STOPPED, True)
        with setting(api_key="a secret ü"):
            assert post(file, locked.url, kind="category").status == ACCEPTED
