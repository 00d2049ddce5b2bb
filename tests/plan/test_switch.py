"""Plans that take over while a query runs: by work counted, so that it always ends the same."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.exec.executor import Run
from hybridq.exec.query import answer, plan
from hybridq.index.programs import assemble
from hybridq.index.selectivity import local_share, selectivity
from hybridq.index.verdicts import Ranges
from hybridq.plan.physical import Bitmap, Fused, Prefilter

ROWS, DIM = 6_000, 8


@pytest.fixture(scope="module")
def con():
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((60, DIM))
    side = rng.integers(0, 60, ROWS)
    vectors = (centres[side] + rng.standard_normal((ROWS, DIM))).astype(np.float32)
    with hybridq.connect() as con:
        con.execute(f"CREATE TABLE t (id INT PRIMARY KEY, side INT, other INT, v FLOAT[{DIM}])")
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        source = {"id": np.arange(ROWS), "side": side, "other": rng.permutation(ROWS), "v": flat}
        con.register("source", pa.table(source))
        con.execute("INSERT INTO t SELECT * FROM source")
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 60)")
        con.execute("SET calibration = 'reference'")
        yield con


def bound_with(con, where, values, change):
    """Bind a query, and its decision with another plan."""
    text = f"SELECT id, v <-> ? AS d FROM t WHERE {where} ORDER BY d LIMIT 10"
    topk = con._session.parse(text)[0].statement
    bound, decision = plan(con._session, topk, values)
    return bound, dataclasses.replace(decision, plan=change(bound, decision))


def exact(con, where, values):
    con.execute("SET recall = 1")
    text = f"SELECT id, v <-> ? AS d FROM t WHERE {where} ORDER BY d LIMIT 10"
    rows = con.execute(text, values).fetchall()
    con.execute("RESET recall")
    return rows


def query_on(con, side):
    rows = con.execute("SELECT v FROM t WHERE side = ? LIMIT 1", [side]).fetchall()
    return np.array(rows[0][0], np.float32)


@pytest.mark.parametrize("source", ["permutation", "mask"])
@pytest.mark.parametrize(
    ("wanted", "max_lists", "switched"), [(7, 20, False), (8, 20, False), (8, 0, True)]
)
def test_a_scan_gives_way_where_the_rows_are_elsewhere(con, source, wanted, max_lists, switched):
    """Rows of another side lie in one list, which zones find; it may still be one too many."""

    def guarded(bound, decision):
        return Fused(
            target=0.95,
            nprobe=None,
            estimated_lists=4,
            estimated_share=1 / 60,
            max_lists=max_lists,
            otherwise=Prefilter(source=source, estimated_rows=100),
        )

    values = [query_on(con, 7), wanted, ROWS]
    bound, decision = bound_with(con, "side = ? AND other < ?", values, guarded)
    run = Run()
    rows = answer(con._session, bound, decision, run)[1]
    assert run.switched == switched
    if wanted == 8:
        assert rows == exact(con, "side = ? AND other < ?", values)
    assert run.counters.counts().lists <= 20
    assert len(rows) == 10


def test_a_bitmap_of_few_rows_is_not_scanned(con):
    def few(bound, decision):
        return Bitmap(
            target=0.95,
            nprobe=None,
            estimated_lists=4,
            estimated_share=0.3,
            kept=False,
            gather_rows=100,
        )

    for factor, switched in ((200, True), (2, False)):
        where = f"other * {factor} < id"
        values = [query_on(con, 7)]
        bound, decision = bound_with(con, where, values, few)
        run = Run()
        rows = answer(con._session, bound, decision, run)[1]
        assert run.switched == switched
        if switched:
            assert rows == exact(con, where, values)
            assert run.counters.counts().lists == 0


def test_candidates_give_way_to_the_bitmap(con):
    con.execute("SET plan = 'postfilter'")
    text = "SELECT id, v <-> ? AS d FROM t WHERE {} ORDER BY d LIMIT 10"
    seen = []
    for where in ("other > id / 100", "other * 500 < id"):
        query = query_on(con, 3)
        explained = con.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text.format(where)}", [query])
        seen.append(json.loads(explained.fetchone()[1])["actual"]["switched"])
        rows = con.execute(text.format(where), [query]).fetchall()
        assert len(rows) == min(10, len(exact(con, where, [query])))
    con.execute("RESET plan")
    assert seen == [False, True]


def test_work_does_not_depend_on_the_clock(con):
    text = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM t WHERE side = 8 AND other < 3000 "
    text += "ORDER BY v <-> ? LIMIT 10"
    actual = []
    for _ in range(3):
        found = json.loads(con.execute(text, [query_on(con, 7)]).fetchone()[1])
        found["actual"].pop("seconds")
        actual.append(found)
    assert actual[0] == actual[1] == actual[2]


def test_the_share_near_the_query_tells_correlation(con):
    part = con._session.instance.indexes["i"].snapshot.parts[0]
    side = part.spec.position_of("side")
    near = assemble(Ranges(side, ((7, 7),)))
    query = query_on(con, 7)
    assert local_share(part, near, query, 1 / 60) > 2 / 60
    halves = assemble(Ranges(side, ((0, 29),)))
    whole = selectivity(part, halves).share
    shares = {s: local_share(part, halves, query_on(con, s), whole) for s in (7, 50)}
    assert shares[7] > shares[50]
    # What so few rows cannot tell is left as it is.
    none = assemble(Ranges(side, ((1000, 1000),)))
    assert local_share(part, none, query, 1e-4) == 1e-4
    assert local_share(part, none, query, 0.1) < 0.1
