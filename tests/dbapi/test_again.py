"""A statement run again: what is kept of it follows values, writes, settings and the schema."""

import gc
import weakref
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

import hybridq
from hybridq.errors import DataError, ProgrammingError
from hybridq.index.repeated import RepeatedScan

DIM = 4
ROWS = 2000


@pytest.fixture(params=["recall = 1", "plan = 'fused'"])
def con(request):
    with hybridq.connect() as con:
        con.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, price INTEGER, rate DOUBLE, "
            "ok BOOLEAN, name VARCHAR, v FLOAT[4])"
        )
        generator = np.random.default_rng(0)
        rows = [
            [
                i,
                i % 20,
                (i % 8) / 4 - 1,
                i % 3 == 0,
                f"n{i % 5}",
                generator.standard_normal(DIM).astype(np.float32).tolist(),
            ]
            for i in range(ROWS)
        ]
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", rows)
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute(f"SET {request.param}")
        yield con


def again(con, text, *values):
    """Return the rows of one statement run for each of `values`, several times over."""
    query = np.zeros(DIM, np.float32)
    first = [con.execute(text, [query, v]).fetchall() for v in values]
    for _ in range(3):
        assert [con.execute(text, [query, v]).fetchall() for v in values] == first
    return first


def afresh(con, text, *values):
    """Return the same rows, each statement parsed and planned anew."""
    query = np.zeros(DIM, np.float32)
    return [
        con.execute(f"{text} -- {i}", [query, value]).fetchall() for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("price", [3, 3.0, 3.5, "3", Decimal("3"), Decimal("3.0"), True, None, np.int64(3)]),
        ("rate", [0, 0.0, -0.0, Decimal("0.25"), Decimal("0.250"), 0.25, float("nan"), None]),
        ("ok", [True, False, 1, None]),
        ("name", ["n1", "n2", "", None]),
    ],
)
@pytest.mark.parametrize("op", ["=", "<"])
def test_values_of_any_type_follow_each_other(con, column, values, op):
    text = f"SELECT id, v <-> ? AS d FROM t WHERE {column} {op} ? ORDER BY d LIMIT 7"

    def outcome(run, *given):
        out = []
        for value in given:
            try:
                out.append(run(con, text, value)[0])
            except hybridq.Error as error:
                out.append(type(error))
        return out

    assert outcome(again, *values) == outcome(afresh, *values)
    assert outcome(again, *values[::-1]) == outcome(afresh, *values[::-1])


def test_limit_and_offset_are_read_each_time(con):
    text = "SELECT id FROM t ORDER BY v <-> ? LIMIT ?"
    assert [len(rows) for rows in again(con, text, 3, 0, 5)] == [3, 0, 5]
    with pytest.raises(ProgrammingError):
        con.execute(text, [np.zeros(DIM), -1])


def test_a_query_vector_is_checked_each_time(con):
    text = "SELECT id FROM t ORDER BY v <-> ? LIMIT 3"
    for _ in range(4):
        good = con.execute(text, [np.zeros(DIM)]).fetchall()
    for bad in (np.full(DIM, np.nan), np.zeros(DIM + 1), [np.inf] * DIM):
        with pytest.raises(DataError):
            con.execute(text, [bad])
    assert con.execute(text, [[0.0] * DIM]).fetchall() == good
    assert con.execute(text, ["[0,0,0,0]"]).fetchall() == good


def test_two_query_vectors_are_one_only_if_equal(con):
    text = "SELECT id, v <-> ? FROM t ORDER BY v <-> ? LIMIT 3"
    zero, one = np.zeros(DIM, np.float32), np.ones(DIM, np.float32)
    for _ in range(3):
        con.execute(text, [zero, zero])
    same = con.execute(text, [zero, zero]).fetchall()
    other = con.execute(text, [one, zero]).fetchall()
    assert [row[0] for row in same] == [row[0] for row in other]
    assert [row[1] for row in same] != [row[1] for row in other]
    assert con.execute(text, [zero, zero]).fetchall() == same


def test_writes_are_seen(con):
    text = "SELECT id FROM t WHERE price < ? ORDER BY v <-> ? LIMIT 3"
    query = np.zeros(DIM, np.float32)
    for _ in range(4):
        before = con.execute(text, [5, query]).fetchall()
    con.execute("INSERT INTO t VALUES (5000, 1, 0, true, 'n', [0, 0, 0, 0])")
    assert con.execute(text, [5, query]).fetchall() == [(5000,), *before[:2]]
    con.execute("UPDATE t SET price = 9 WHERE id = 5000")
    assert con.execute(text, [5, query]).fetchall() == before


def plan_of(con, text, parameters):
    return con.execute(f"EXPLAIN {text}", parameters).fetchall()[0][1]


def test_settings_are_heeded(con):
    text = "SELECT id FROM t WHERE price < ? ORDER BY v <-> ? LIMIT 3"
    parameters = [5, np.zeros(DIM, np.float32)]
    for plan in ("exact", "prefilter", "fused", "bitmap", "postfilter", "exact"):
        con.execute(f"SET plan = '{plan}'")
        assert f"Plan: {plan}" in plan_of(con, text, parameters)
    con.execute("RESET plan")
    con.execute("SET nprobe = 1")
    assert "nprobe 1" in plan_of(con, text, parameters)


def test_the_schema_is_heeded(con):
    text = "SELECT * FROM t ORDER BY v <-> ? LIMIT 1"
    parameters = [np.zeros(DIM, np.float32)]
    assert len(con.execute(text, parameters).fetchone()) == 6
    con.execute("ALTER TABLE t ADD COLUMN more INTEGER DEFAULT 7")
    assert con.execute(text, parameters).fetchone()[-1] == 7
    assert "using index i" in plan_of(con, text, parameters)
    con.execute("RESET plan")
    con.execute("DROP INDEX i")
    assert "no vector index" in plan_of(con, text, parameters)
    con.execute("CREATE INDEX j ON t USING ann (v)")
    assert "using index j" in plan_of(con, text, parameters)
    con.execute("SET default_order = 'DESC'")
    assert "default_order" in plan_of(con, text, parameters)


def test_the_schema_of_another_connection_is_heeded_when_it_commits(tmp_path):
    path = tmp_path / "t.duckdb"
    text = "SELECT * FROM t ORDER BY v <-> ? LIMIT 1"
    parameters = [np.zeros(DIM, np.float32)]
    with hybridq.connect(path) as one, hybridq.connect(path) as other:
        one.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[4])")
        one.execute("INSERT INTO t SELECT range, [range, 0, 0, 0] FROM range(50)")
        one.execute("CREATE INDEX i ON t USING ann (v)")
        assert len(other.execute(text, parameters).fetchone()) == 2
        one.begin()
        one.execute("ALTER TABLE t ADD COLUMN more INTEGER DEFAULT 7")
        assert len(other.execute(text, parameters).fetchone()) == 2
        one.commit()
        assert len(other.execute(text, parameters).fetchone()) == 3


def test_what_an_expression_means_is_heeded(con):
    text = "SELECT id FROM t WHERE price = limit_of(?) ORDER BY v <-> ? LIMIT 2000"
    parameters = [3, np.zeros(DIM, np.float32)]
    con.execute("RESET plan")
    for plus in (1, 2):
        con.execute(f"CREATE OR REPLACE TEMP MACRO limit_of(x) AS x::INTEGER + {plus}")
        for _ in range(4):
            ids = {i for (i,) in con.execute(text, parameters).fetchall()}
            assert ids == set(range(3 + plus, ROWS, 20))


def test_values_that_are_equal_are_not_the_same(con):
    text = "SELECT id FROM t WHERE rate > 1 / CAST(? AS DOUBLE) ORDER BY v <-> ? LIMIT 3"
    query = np.zeros(DIM, np.float32)
    brute = "SELECT count(*) FROM t WHERE rate > 1 / CAST(? AS DOUBLE)"
    for value in (0.0, -0.0, 0.0, 4.0, -4.0):
        expected = con.execute(brute, [value]).fetchone()[0]
        assert len(con.execute(text, [value, query]).fetchall()) == min(3, expected)


def test_a_transaction_of_its_own_is_heeded(con):
    text = "SELECT id FROM t WHERE price < ? ORDER BY v <-> ? LIMIT 3"
    parameters = [5, np.zeros(DIM, np.float32)]
    for _ in range(4):
        before = con.execute(text, parameters).fetchall()
    con.execute("RESET plan")
    con.begin()
    con.execute("DELETE FROM t WHERE id = ?", before[0])
    for _ in range(3):
        assert con.execute(text, parameters).fetchall()[:2] == before[1:]
    con.rollback()
    for _ in range(3):
        assert len(con.execute(text, parameters).fetchall()) == 3


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_other_vectors_have_other_answers(con, metric):
    con.execute("DROP INDEX i")
    con.execute(f"CREATE INDEX i ON t USING ann (v) WITH (metric = '{metric}')")
    op = {"l2": "<->", "cosine": "<=>", "ip": "<#>"}[metric]
    text = f"SELECT v {op} ? AS d, id FROM t WHERE name = ? ORDER BY d LIMIT 4"
    generator = np.random.default_rng(1)
    queries = [generator.standard_normal(DIM).astype(np.float32) for _ in range(6)]
    first = [con.execute(text + f" -- {i}", [q, "n1"]).fetchall() for i, q in enumerate(queries)]
    for _ in range(3):
        assert [con.execute(text, [q, "n1"]).fetchall() for q in queries] == first
    assert [con.execute(text, [q.tolist(), "n1"]).fetchall() for q in queries] == first
    con.execute("RESET plan")
    for _ in range(3):
        zero = con.execute(text, [np.zeros(DIM), "n1"]).fetchall()
    assert zero == con.execute(text + " -- zero", [np.zeros(DIM), "n1"]).fetchall()
    assert con.execute(text, [None, "n1"]).fetchall() == (
        con.execute(text + " -- null", [None, "n1"]).fetchall()
    )


def test_rows_without_a_vector_fill_the_answer_up(con):
    con.execute("UPDATE t SET v = NULL WHERE price = 3 AND id > 100")
    con.execute("REINDEX INDEX i")
    text = "SELECT id FROM t WHERE price = ? ORDER BY v <-> ? LIMIT 8"
    for _ in range(4):
        rows = con.execute(text, [3, np.zeros(DIM, np.float32)]).fetchall()
        assert len(rows) == 8
        assert sorted(rows[:6]) == [(i,) for i in range(3, 104, 20)]
        for value in (4, 5):
            assert len(con.execute(text, [value, np.zeros(DIM, np.float32)]).fetchall()) == 8


def test_dates_beyond_pythons_calendar_are_as_the_first_time():
    text = "SELECT id, day, v <-> ? AS d FROM t ORDER BY d LIMIT 2"
    with hybridq.connect() as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, day DATE, v FLOAT[2])")
        con.execute(
            "INSERT INTO t SELECT i, CASE WHEN i < 1000 THEN DATE '2020-01-01' "
            "ELSE DATE '20000-01-01' END, [i, 0] FROM range(2000) r(i)"
        )
        con.execute("CREATE INDEX i ON t USING ann (v)")

        def ask(text, x):
            return con.execute(text, [np.array([x, 0], np.float32)]).fetchall()

        expected = ask(f"{text} -- once", 1990)
        for x in (10, 20, 30, 40):
            assert ask(text, x)[0][0] == x
        assert ask(text, 1990) == expected


def test_statements_kept_let_go_of_snapshots_that_were_replaced(con):
    text = "SELECT id, v <-> ? AS d FROM t WHERE price = ? ORDER BY d LIMIT 3"
    again(con, text, 3)
    session = con.check_open()
    (state,) = session.instance.indexes.values()
    old = weakref.ref(state.snapshot.parts[0].keys)
    con.execute("DELETE FROM t WHERE id < 1500")
    con.execute("CALL hybridq_merge('i')")
    other = "SELECT id FROM t ORDER BY v <-> ? LIMIT 3"
    con.execute(other, [np.zeros(DIM, np.float32)]).fetchall()
    gc.collect()
    assert old() is None


CONDITIONS = {
    "price IS NOT NULL": [()],
    "price < ?": [(5,), (1,)],
    "name = ?": [("n1",), ("new7",), ("nobody",)],
    "name LIKE 'n%' AND price >= ?": [(7,)],
    "name IN (?, 'n3') OR ok": [("new3",)],
    "price = ? AND name > ?": [(3, "n2"), (4, "new")],
    "rate >= ?": [(0.5,)],
}


@pytest.mark.parametrize("plan", ["fused", "prefilter", "auto"])
def test_what_was_settled_is_carried_over_commits(plan):
    """Statements that come again and again between commits and merges, as if each were new."""
    generator = np.random.default_rng(7)

    def vector():
        return generator.standard_normal(DIM).astype(np.float32)

    def insert(con, rows):
        names = [f"n{i % 5}" if i % 3 else f"new{i % 9}" for i in rows]
        given = [
            [i, i % 20, (i % 8) / 4 - 1, i % 3 == 0, name, vector().tolist()]
            for i, name in zip(rows, names, strict=True)
        ]
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", given)

    with hybridq.connect() as con:
        con.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, price INTEGER, rate DOUBLE, "
            "ok BOOLEAN, name VARCHAR, v FLOAT[4])"
        )
        insert(con, range(3000))
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute(f"SET plan = '{plan}'")
        statements = [
            (f"SELECT id, v <-> ? AS d FROM t WHERE {where} ORDER BY d LIMIT 6", values)
            for where, several in CONDITIONS.items()
            for values in several
        ]
        statements.append(("SELECT id, name, v <-> ? AS d FROM t ORDER BY d LIMIT 6", ()))
        changes = [
            lambda: insert(con, range(3000, 3010)),
            lambda: insert(con, range(4000, 4900)),
            lambda: con.execute("DELETE FROM t WHERE id % 7 = 3"),
            lambda: con.execute("UPDATE t SET name = 'new3', price = 3 WHERE id % 11 = 5"),
            lambda: insert(con, [9000]),
            lambda: con.execute("UPDATE t SET v = NULL WHERE id % 13 = 4"),
            lambda: con.execute("CALL hybridq_merge('i')"),
            lambda: insert(con, range(5000, 5300)),
            lambda: con.execute("DELETE FROM t WHERE id < 2500"),
            lambda: insert(con, range(6000, 6040)),
            lambda: con.execute("INSERT OR REPLACE INTO t SELECT * FROM t WHERE price = 3"),
        ]
        for turn, change in enumerate([lambda: None, *changes]):
            change()
            for number, (text, values) in enumerate(statements):
                for _ in range(1 + turn % 3):
                    query = vector()
                    rows = con.execute(text, [query, *values]).fetchall()
                    expected = con.execute(f"{text} -- {turn}", [query, *values]).fetchall()
                    assert rows == expected, (turn, number)
                if plan == "prefilter":
                    brute = text.replace("v <-> ?", "l2_distance(v, ?::FLOAT[4])")
                    exact = con.execute(f"FROM ({brute}) SELECT * LIMIT 6", [query, *values])
                    assert [row[-1] for row in rows] == pytest.approx(
                        [row[-1] for row in exact.fetchall()], rel=1e-5
                    )


def test_a_commit_does_not_send_statements_the_long_way(con, monkeypatch):
    con.execute("SET plan = 'fused'")
    text = "SELECT id, v <-> ? AS d FROM t WHERE name = ? AND price < ? ORDER BY d LIMIT 3"
    parameters = [np.zeros(DIM, np.float32), "n1", 9]
    con.execute("SET recall = 0.95")
    for _ in range(3):
        con.execute(text, parameters).fetchall()
    con.execute("INSERT INTO t VALUES (5000, 1, 0, true, 'n1', [0, 0, 0, 0])")

    def long_way(*_):
        raise AssertionError("it went the long way")

    session = con.check_open()
    monkeypatch.setattr(session, "run_statement", long_way)
    assert con.execute(text, parameters).fetchall()[0] == (5000, 0.0)


def test_few_matches_are_found_by_the_short_way(con, monkeypatch):
    con.execute("SET plan = 'prefilter'")
    text = "SELECT id, v <-> ? AS d FROM t WHERE price = ? AND id < ? ORDER BY d LIMIT 9"
    query = np.zeros(DIM, np.float32)
    for _ in range(3):
        expected = [con.execute(text, [query, 3, most]).fetchall() for most in (50, 0)]
    assert [len(rows) for rows in expected] == [3, 0]

    def long_way(*_):
        raise AssertionError("it went the long way")

    with monkeypatch.context() as patch:
        patch.setattr(con.check_open(), "run_statement", long_way)
        assert [con.execute(text, [query, 3, most]).fetchall() for most in (50, 0)] == expected
    con.execute("INSERT INTO t VALUES (-1, 3, 0, true, 'n', NULL)")
    assert len(con.execute(text, [query, 3, 0]).fetchall()) == 1


def test_once_known_few_rows_are_not_scanned_for(con, monkeypatch):
    """Not even where a scan is the cheapest way to find them."""
    instance = con.check_open().instance
    names = ("position_row", "permutation_row", "filter_row", "check_row", "duckdb_call")
    dear = dict.fromkeys(names, 1e4) | {"list_visit": 1.0, "mask_row": 1.0}
    monkeypatch.setattr(instance, "unit", replace(instance.unit, **dear))
    con.execute("SET plan = 'auto'")
    con.execute("SET recall = 0.95")
    text = "SELECT id, v <-> ? AS d FROM t WHERE price = ? AND id < ? ORDER BY d LIMIT 2"
    query, given = np.zeros(DIM, np.float32), [3, 50]
    plan = con.execute(f"EXPLAIN {text}", [query, *given]).fetchall()[0][1]
    assert "Plan: fused" in plan
    exact = con.execute(text.replace("v <-> ?", "l2_distance(v, ?::FLOAT[4])"), [query, *given])
    expected = exact.fetchall()
    for _ in range(3):
        con.execute(text, [query, *given]).fetchall()

    def scan(*_):
        raise AssertionError("it was scanned for")

    monkeypatch.setattr(RepeatedScan, "__call__", scan)
    monkeypatch.setattr("hybridq.exec.finders.scan_parts", scan)
    monkeypatch.setattr(con.check_open(), "run_statement", scan)
    assert con.execute(text, [query, *given]).fetchall() == expected
