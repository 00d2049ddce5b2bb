"""A statement that comes again with values it has not had answers as one that never came before."""

import datetime as dt
import itertools
from decimal import Decimal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import hybridq

DIM, ROWS = 4, 3_000
COLUMNS = {
    "small": ("INTEGER", "i % 50 - 10"),
    "large": ("BIGINT", "(i * 7919) % 100003 * 1000000007"),
    "word": ("UBIGINT", "i % 100"),
    "rate": ("DOUBLE", "CASE WHEN i % 31 = 0 THEN 'nan'::DOUBLE WHEN i % 37 = 0 THEN -0.0::DOUBLE "
             "ELSE (i % 40) / 8 - 2 END"),
    "single": ("FLOAT", "(i % 40) / 8 - 2"),
    "cost": ("DECIMAL(8,2)", "(i % 700) / 100"),
    "day": ("DATE", "DATE '2024-01-01' + (i % 60)::INTEGER"),
    "moment": ("TIMESTAMP", "TIMESTAMP '2024-01-01' + INTERVAL (i % 1000) HOUR"),
    "ok": ("BOOLEAN", "i % 3 = 0"),
    "name": ("VARCHAR", "'n' || i % 40"),
}  # fmt: skip
CONDITIONS = (
    *(f"{{0}} {op} ?" for op in ("<", "<=", "=", ">=", ">", "<>", "IS DISTINCT FROM")),
    *("{0} BETWEEN ? AND ?", "{0} IN (?, ?)", "NOT {0} < ?", "{0} < ? AND {1} >= ?"),
    *("{0} > ? AND {0} <= ?", "{0} < ? OR {1} = ?", "{0} < ? AND {1} IS NOT NULL"),
)
NUMBERS = st.one_of(
    st.integers(-60, 60),
    st.integers(-(2**70), 2**70),
    st.floats(-5, 5).map(lambda x: round(x * 8) / 8),
    st.sampled_from([float("nan"), -0.0, 0.0, float("inf"), -float("inf"), 1e300, 5e-324]),
    st.decimals(-10, 10, places=2),
    st.sampled_from([Decimal("1.000"), Decimal("1e3"), Decimal("NaN"), Decimal("0.005")]),
    st.integers(-60, 60).map(np.int64),
)
VALUES = st.one_of(
    *(NUMBERS, NUMBERS, NUMBERS),  # more often than the others
    st.none(),
    st.booleans(),
    st.sampled_from(["n1", "n39", "", "3", "2024-01-15", "2024-02-01 10:00:00", "true", "x'y"]),
    st.dates(dt.date(2023, 12, 1), dt.date(2024, 4, 1)),
    st.datetimes(dt.datetime(2023, 12, 1), dt.datetime(2024, 4, 1)),
    st.sampled_from([dt.date.max, dt.date.min, dt.time(1), b"ab"]),
)
_numbers = itertools.count()


@pytest.fixture(scope="module", params=["auto", "fused", "prefilter"])
def con(request):
    with hybridq.connect() as con:
        con.check_open().instance.merger.enabled = False
        columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
        con.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns}, v FLOAT[{DIM}])")
        values = ", ".join(
            f"CASE WHEN (i + {n}) % 41 = 0 THEN NULL ELSE {text} END"
            for n, (_, text) in enumerate(COLUMNS.values())
        )
        vector = "[sin(i), cos(i * 3), sin(i * 7), (i % 13) / 13]"
        rows = f"SELECT i, {values}, {vector} FROM"
        con.execute(f"INSERT INTO t {rows} range({ROWS}) r(i)")
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 32)")
        con.execute(f"INSERT INTO t {rows} range({ROWS}, {ROWS + 600}) r(i)")
        con.execute(f"INSERT INTO t {rows} range({ROWS + 600}, {ROWS + 640}) r(i)")
        con.execute(f"SET plan = '{request.param}'")
        yield con


def outcome(con, text, parameters):
    try:
        return con.execute(text, parameters).fetchall()
    except hybridq.Error as error:
        return type(error), str(error).split("\n")[0]


@given(data=st.data())
def test_new_values(con, data):
    names = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=2, max_size=2))
    condition = data.draw(st.sampled_from(CONDITIONS)).format(*names)
    text = f"SELECT id, v <-> ? AS d FROM t WHERE {condition} ORDER BY d LIMIT 5"
    given_ = condition.count("?")
    query = np.array(
        data.draw(st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM)), np.float32
    )
    for _ in range(2):
        outcome(con, text, [query, *((5, 40) if given_ == 2 else (5,))])
    for values in data.draw(
        st.lists(st.lists(VALUES, min_size=given_, max_size=given_), min_size=1, max_size=6)
    ):
        afresh = outcome(con, f"{text} -- {next(_numbers)}", [query, *values])
        for _ in range(3):
            assert str(outcome(con, text, [query, *values])) == str(afresh), (condition, values)
