"""A scan asked for again: over any parts it finds what the first one did."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.index.counters import Counters
from hybridq.index.hits import merge
from hybridq.index.programs import assemble
from hybridq.index.repeated import RepeatedScan
from hybridq.index.scans import Effort
from hybridq.index.search import Search, scan_parts
from hybridq.index.verdicts import Ranges, join

DIM, ROWS = 16, 6_000
SIGNS = {"l2": "<->", "cosine": "<=>", "ip": "<#>"}
QUERIES = np.random.default_rng(3).normal(size=(40, DIM)).astype(np.float32) * 3


def table(start, stop):
    rng = np.random.default_rng([start, stop])
    centres = np.random.default_rng(1).normal(size=(40, DIM)) * 3
    ids = np.arange(start, stop)
    vectors = centres[rng.integers(0, 40, len(ids))] + rng.normal(size=(len(ids), DIM))
    # Every fifth vector is one of a few, so that distances tie within parts and across them.
    few = np.random.default_rng(2).normal(size=(8, DIM)) * 3
    vectors[::5] = few[ids[::5] % 8]
    lists = [None if i % 97 == 5 else v for i, v in zip(ids.tolist(), vectors, strict=True)]
    return pa.table(
        {
            "id": pa.array(ids, pa.int32()),
            "g": pa.array(rng.integers(0, 100, len(ids)), pa.int32()),
            "label": pa.array([("ant", "bee", "cat", None)[i % 4] for i in ids.tolist()]),
            "v": pa.array(lists, pa.list_(pa.float32(), DIM)),
        }
    )


def insert(con, start, stop):
    con.register("fresh", table(start, stop))
    con.execute("INSERT INTO t SELECT * FROM fresh")
    con.unregister("fresh")


@pytest.fixture
def con(request):
    metric = getattr(request, "param", "l2")
    with hybridq.connect() as con:
        con.check_open().instance.merger.enabled = False
        con.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, label TEXT, v FLOAT[{DIM}])"
        )
        insert(con, 0, ROWS)
        con.execute(f"CREATE INDEX i ON t USING ann (v) WITH (metric = '{metric}', nlist = 64)")
        con.execute("SET plan = 'fused'")
        yield con


def snapshot_of(con):
    return con.check_open().instance.index_named("i").snapshot


def grow(con, sizes):
    """Insert batches, each of which becomes a part."""
    at = 10_000
    for size in sizes:
        insert(con, at, at + size)
        at += size
    return snapshot_of(con)


def agree(snapshot, verdict, k, limit, share):
    """Compare the repeated scan with the general way; return how many it answered."""
    programs = [assemble(verdict) for _ in snapshot.parts]
    effort = Effort(share=share, target=0.95)
    scan = RepeatedScan(snapshot, k, limit)
    # It keeps what it reads of the programs.
    assert scan.aim([assemble(verdict) for _ in snapshot.parts], effort)
    answered = 0
    for query in QUERIES:
        found = scan_parts(snapshot.parts, programs, Search(query=query, k=k), Counters(), effort)
        expected = merge(snapshot, found, k)
        hits = scan(query)
        if hits is None:
            assert len(expected) < k
            continue
        answered += 1
        for name in ("distance", "part", "position"):
            ours, theirs = getattr(hits, name), getattr(expected.cut(0, limit), name)
            assert ours.tolist() == theirs.tolist(), name
    return answered


SIZES = ((), (2_000,), (100,), (9_000, 600), (9_000, 600, 40), (9_000, 600, 100, 60, 30))


@pytest.mark.parametrize("con", SIGNS, indirect=True)
@pytest.mark.parametrize("sizes", SIZES)
def test_it_finds_what_the_general_way_does(con, sizes):
    snapshot = grow(con, sizes)
    assert len(snapshot.parts) == 1 + len(sizes)
    con.execute("DELETE FROM t WHERE id % 7 = 3")
    snapshot = snapshot_of(con)
    g, label = 1, snapshot.spec.position_of("label")
    for k, limit in ((10, 10), (10, 4), (1, 1), (64, 30)):
        assert agree(snapshot, True, k, limit, 1.0) == len(QUERIES)
        assert agree(snapshot, Ranges(g, ((0, 24),)), k, limit, 0.25) == len(QUERIES)
    both = join(True, [Ranges(g, ((0, 9),)), Ranges(label, ((0, 0),))])
    assert agree(snapshot, both, 10, 10, 0.025) == len(QUERIES)


@pytest.mark.parametrize("con", SIGNS, indirect=True)
def test_parts_of_several_generations_in_any_order(con):
    snapshot = grow(con, (9_000, 4_000, 300, 100, 60))
    big, first, second, third, *flat = snapshot.parts
    assert len(flat) == 2
    assert third.codes is not None

    def of(part, generation):
        return replace(part, generation=generation)

    for parts in (
        (big, of(first, "a"), second, of(third, "a"), *flat),
        (big, of(first, "a"), flat[0], of(second, "a"), flat[1], of(third, "b")),
        (big, flat[1], first, flat[0], second, third),
    ):
        mixed = replace(snapshot, parts=parts)
        for k, limit in ((10, 10), (200, 150)):
            assert agree(mixed, True, k, limit, 1.0) == len(QUERIES)
            assert agree(mixed, Ranges(1, ((0, 24),)), k, limit, 0.25) == len(QUERIES)


def test_rows_that_are_too_few_are_left_to_the_general_way(con):
    snapshot = grow(con, (2_000, 100))
    assert agree(snapshot, Ranges(0, ((0, 5), (10_000, 10_002))), 10, 10, 1e-3) == 0
    few = Ranges(0, ((0, 12), (10_000, 10_003), (12_000, 12_001)))
    agree(snapshot, few, 10, 10, 1e-3)


def test_a_delta_that_holds_all_that_is_near(con):
    con.execute("DELETE FROM t WHERE id >= 3")
    snapshot = grow(con, (2_000, 100))
    assert agree(snapshot, True, 10, 10, 1.0) == len(QUERIES)


@pytest.mark.parametrize("con", SIGNS, indirect=True)
@pytest.mark.parametrize("condition", ["", "WHERE g < ?", "WHERE label = ?"])
def test_answers_follow_what_is_written(con, condition):
    metric = snapshot_of(con).spec.metric.name.lower()
    text = f"SELECT id, label, v {SIGNS[metric]} ? AS d FROM t {condition} ORDER BY d LIMIT 10"
    value = {"": [], "WHERE g < ?": [30], "WHERE label = ?": ["bee"]}[condition]

    def ask(text):
        return [con.execute(text, [q, *value]).fetchall() for q in QUERIES[:8]]

    steps = (
        lambda: insert(con, 10_000, 13_000),
        lambda: con.execute("DELETE FROM t WHERE id % 11 = 2"),
        lambda: insert(con, 20_000, 20_700),
        lambda: con.execute("UPDATE t SET g = 5 WHERE id IN (1, 10001, 20001)"),
        lambda: insert(con, 30_000, 30_090),
        lambda: con.execute("INSERT INTO t SELECT 40000, 3, 'bee', v FROM t WHERE id = 10000"),
        lambda: con.execute("SELECT * FROM hybridq_merge('i')").fetchall(),
    )
    for number, step in enumerate(steps):
        for _ in range(3):
            answers = ask(text)
        assert ask(f"{text} -- {number}") == answers
        step()
        assert ask(text) == ask(f"{text} -- {number} written")
