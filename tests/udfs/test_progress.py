"""Statements over tables tell how many rows their functions are done with."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import hybridq
from hybridq.errors import DataError, OperationalError


class Recorder:
    """Keeps each task as [name, total, counts …]; None stands for its end."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int | None]] = []
        self.counts: list[int] = []
        self.open = False
        self.advanced = threading.Event()

    def start(self, task: str, total: int | None) -> None:
        assert not self.open
        self.open = True
        self.tasks.append((task, total))
        self.counts.append(0)

    def advance(self, count: int) -> None:
        assert self.open
        self.counts[-1] += count
        if count:
            self.advanced.set()

    def finish(self) -> None:
        self.open = False


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def con(told: Recorder, photos: list[bytes]) -> Iterator[hybridq.Connection]:
    con = hybridq.connect(":memory:", progress=told)
    con.execute("CREATE EXTENSION open_analytic")
    con.execute("SELECT open_analytic.pipeline_create('general_feature_extractor')").fetchall()
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, image BLOB, found TEXT, v FLOAT[])")
    rows = [(number, photo) for number, photo in enumerate([*photos, None])]
    con.executemany("INSERT INTO t (id, image) VALUES (?, ?)", rows)
    told.tasks.clear()
    told.counts.clear()
    yield con
    con.close()


RUN = "open_analytic.pipeline_run('general_feature_extractor', image)"


@pytest.mark.parametrize(
    ("statement", "function"),
    [
        (f"SELECT {RUN} FROM t", "pipeline_run"),
        (f"UPDATE t SET found = {RUN}", "pipeline_run"),
        ("UPDATE t SET v = extract_feature(image)", "extract_feature"),
        ("INSERT INTO t (id, v) SELECT id + 100, extract_feature(image) FROM t", "extract_feature"),
        ("CREATE TABLE u AS SELECT extract_feature(image) AS v FROM t", "extract_feature"),
        ("SELECT recognize(image, 'classify') FROM t", "recognize"),
        ("SELECT a.gender FROM (SELECT commodity_attributes(image) AS a FROM t)", "commodity"),
        ("SELECT crop(image, [0, 0, 9, 9]) FROM t", "crop"),
    ],
)
def test_rows_are_counted(
    con: hybridq.Connection, told: Recorder, statement: str, function: str
) -> None:
    cursor = con.execute(statement)
    if cursor.description:
        cursor.fetchall()
    assert told.tasks == [(f"{function}, rows", None)]
    assert told.counts == [21]
    assert not told.open


def test_an_indexed_table_too(con: hybridq.Connection, told: Recorder) -> None:
    con.execute("CREATE INDEX i ON t USING ann (v) WITH (dim = 1024)")
    told.tasks.clear()
    told.counts.clear()
    con.execute("UPDATE t SET v = extract_feature(image)")
    assert told.tasks[0] == ("extract_feature, rows", None)
    assert told.counts[0] == 21
    assert not told.open


def test_a_row_counts_once_however_many_functions_it_is_given(
    con: hybridq.Connection, told: Recorder
) -> None:
    con.execute(f"SELECT extract_feature(image), {RUN}, recognize(image, 'classify') FROM t")
    con.execute("SELECT 1").fetchall()
    assert len(told.tasks) == 1
    assert told.counts == [21]


def test_a_result_fetched_in_parts_goes_on_counting(
    con: hybridq.Connection, told: Recorder
) -> None:
    con.execute("CREATE TABLE many AS SELECT image FROM t, range(200) WHERE image IS NOT NULL")
    con.execute("SET on_bad_input = 'null'")
    cursor = con.execute("SELECT crop(image, [0, 0, 4, 4]) FROM many")
    assert not told.open
    fetched = 0
    while rows := cursor.fetchmany(1000):
        fetched += len(rows)
        assert not told.open  # nothing is on the screen while rows are shown
    assert fetched == 4000
    assert {task for task, _ in told.tasks} == {"crop, rows"}
    assert told.counts[-1] == 4000
    assert told.counts == sorted(told.counts)


def test_a_new_statement_counts_anew(con: hybridq.Connection, told: Recorder) -> None:
    for _ in range(2):
        con.execute("SELECT extract_feature(image) FROM t").fetchall()
    assert told.counts == [21, 21]


def test_a_failure_ends_the_task(con: hybridq.Connection, told: Recorder) -> None:
    con.execute("UPDATE t SET image = 'nothing'::BLOB WHERE id = 12")
    with pytest.raises(DataError, match="cannot be used"):
        con.execute("UPDATE t SET v = extract_feature(image)")
    assert not told.open
    con.execute("SET on_bad_input = 'null'")
    con.execute("UPDATE t SET v = extract_feature(image)")
    assert told.counts[-1] == 21


def test_files_have_a_total(con: hybridq.Connection, told: Recorder, album: object) -> None:
    con.execute(
        f"SELECT extract_feature(content), {RUN.replace('image', 'content')} "
        f"FROM read_blob('{album}/photos/cat_*5.png')"
    ).fetchall()
    ((task, total),) = told.tasks
    assert (task, total) == ("extract features", told.counts[0])


def test_a_cancelled_statement_stops_at_its_next_rows(
    con: hybridq.Connection, told: Recorder
) -> None:
    con.execute("CREATE TABLE many AS SELECT image FROM t, range(50) WHERE image IS NOT NULL")

    def cancel() -> None:
        told.advanced.wait(60)
        con.interrupt()

    told.advanced.clear()
    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises((OperationalError, KeyboardInterrupt)):
        con.execute("CREATE TABLE v AS SELECT extract_feature(image) AS v FROM many")
    canceller.join()
    assert 0 < told.counts[-1] < 1000
    assert not told.open


CUT = "crop(image, [0, 0, 4, 4])"


@pytest.mark.parametrize(
    ("statement", "total"),
    [
        (f"SELECT {CUT} FROM many", 160),
        (f"FROM many SELECT {CUT}", 160),
        (f"UPDATE many SET part = {CUT}", 160),
        (f"CREATE TABLE made AS SELECT {CUT} AS part FROM main.many", 160),
        (f"INSERT INTO many (part) SELECT {CUT} FROM many", 160),
        (f"SELECT count(part) FROM (SELECT {CUT} AS part FROM many) AS parts", 160),
        (f"SELECT {CUT} FROM many WHERE image IS NOT NULL", None),
        (f"SELECT {CUT} FROM many, range(2)", None),
        (f"SELECT {CUT} FROM (SELECT image FROM many LIMIT 150) AS picked", None),
        (f"SELECT {CUT}, {CUT.replace('4', '5')} FROM many", None),
        (f"SELECT {CUT} FROM few", None),
    ],
)
def test_the_total_is_told_where_it_is_plain(
    con: hybridq.Connection, told: Recorder, statement: str, total: int | None
) -> None:
    con.execute(
        "CREATE TABLE many AS SELECT image, NULL::BLOB AS part FROM t, range(8) WHERE id < 20"
    )
    con.execute("CREATE VIEW few AS SELECT image FROM many LIMIT 100")
    cursor = con.execute(statement)
    if cursor.description:
        cursor.fetchall()
    assert told.tasks[0] == ("crop, rows", total)
    assert total is None or told.counts[0] == total
