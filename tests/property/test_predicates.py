"""A leaf that hybridq compiles must select exactly the rows DuckDB selects.

One table per attribute type, every operator, every kind of constant and parameter. Where DuckDB
refuses a comparison, hybridq must refuse it too.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import uuid
from dataclasses import dataclass
from decimal import Decimal

import duckdb
import numpy as np
import pytest

import hybridq

OPERATORS = ("=", "<>", "<", "<=", ">", ">=")
FLOATS = ["'nan'", "'inf'", "'-inf'", "0.0", "-0.0", "0.1", "1.5", "-2.25", "16777217", "1e10"]
TEXTS = [
    "''",
    "'a'",
    "'A'",
    "'b'",
    "'ab'",
    "'Ä'",
    "'ä'",
    "'é'",
    "'zz'",
    "'😀'",
    "'1'",
    "'10'",
    "'x''y'",
]
UUIDS = [
    "'00000000-0000-0000-0000-000000000000'",
    "'11111111-2222-3333-4444-555555555555'",
    "'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee'",
    "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
]

VALUES: dict[str, list[str]] = {
    "BOOLEAN": ["true", "false"],
    "TINYINT": ["-128", "-1", "0", "1", "2", "10", "127"],
    "SMALLINT": ["-32768", "0", "1", "1000"],
    "INTEGER": ["-2147483648", "-1", "0", "1", "2", "10", "16777217", "2147483647"],
    "BIGINT": [
        "-9223372036854775807",
        "-1",
        "0",
        "1",
        "2",
        "10",
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
    ],
    "UTINYINT": ["0", "1", "2", "10", "255"],
    "USMALLINT": ["0", "1", "2", "65535"],
    "UINTEGER": ["0", "1", "2", "4294967295"],
    "UBIGINT": [
        "0",
        "1",
        "2",
        "10",
        "9007199254740993",
        "9223372036854775808",
        "18446744073709551614",
    ],
    "FLOAT": FLOATS,
    "DOUBLE": [*FLOATS, "0.1::FLOAT::DOUBLE", "9007199254740992", "0.30000000000000004", "0.3"],
    "DECIMAL(4,1)": ["-999.9", "-0.1", "0", "0.1", "1", "1.2", "1.3", "1.5", "10", "999.9"],
    "DECIMAL(9,4)": ["-0.0001", "0", "0.1", "1.25", "1.2501", "10", "99999.9999"],
    "DECIMAL(18,3)": ["-1.001", "0", "0.1", "1.5", "9007199254740.993", "999999999999999.999"],
    "DATE": [
        "'1969-12-31'",
        "'1970-01-01'",
        "'2020-02-29'",
        "'2024-01-01'",
        "'0001-01-01'",
        "'9999-12-31'",
    ],
    "TIME": ["'00:00:00'", "'10:11:12'", "'10:11:12.5'", "'23:59:59.999999'"],
    "TIMESTAMP": [
        "'1969-12-31 23:59:59.999999'",
        "'1970-01-01'",
        "'2020-02-29 00:00:00'",
        "'2020-02-29 10:11:12.5'",
        "'2024-01-01'",
    ],
    "TIMESTAMP WITH TIME ZONE": [
        "'1969-12-31 23:59:59+00'",
        "'2020-02-29 00:00:00+00'",
        "'2020-02-29 10:11:12.5+02'",
        "'2024-01-01 00:00:00+00'",
    ],
    "VARCHAR": TEXTS,
    "UUID": UUIDS,
    "ENUM('b', 'a', 'Z', 'it''s', '1')": ["'b'", "'a'", "'Z'", "'it''s'", "'1'"],
}

LITERALS = [
    "NULL", "true", "false", "0", "1", "-1", "2", "10", "127", "128", "-128", "-129", "255",
    "256", "65536", "16777216", "16777217", "2147483647", "2147483648", "4294967296",
    "9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808",
    "18446744073709551614", "18446744073709551616", "0.1", "0.10", "-0.1", "0.0", "-0.0", "0.3",
    "1.0", "1.2", "1.25", "1.2501", "1.5", "1.55", "9.99", "999.9", "1000.0", "99999.99995",
    "9007199254740992.5", "9007199254740993.0", ".5", "5.", "0.1000000014901161",
    "0.1000000014901161193847656250", "0.30000000000000004", "16777217.0", "9007199254740.993",
    "0.33333333333333333333333333333333", "1e0", "1e-1", "15e-1", "1E10", "9007199254740993e0",
    "1e308", "1e400", "3e39", "'0'", "'1'", "' 1'", "'01'", "'-1'", "'10'", "'300'", "'70000'",
    "'1.5'", "'1.50'", "'0.1'", "'1.25'", "'1e1'", "'true'", "'t'", "'nan'", "'inf'", "'-0'",
    "'9007199254740993'", "'123456789012345678'", "''", "'a'", "'A'", "'b'", "'Z'", "'zz'", "'Ä'",
    "'é'", "'e\u0301'", "'😀'", "'it''s'", "'x''y'", "'1970-01-01'", "'2020-02-29'",
    "'2021-02-29'", "'2020-2-29'", "' 2020-02-29'", "'infinity'", "'epoch'",
    "'2020-02-29 00:00:00'", "'2020-02-29T10:11:12.5'", "'2020-02-29 10:11:12.5'",
    "'2020-02-29 24:00:00'", "'2020-02-29 10:11:12.5Z'", "'2020-02-29 10:11:12.5+02'",
    "'2020-02-29 10:11'", "'10:11:12'", "'10:11:12.5'", "'10:11'", "'24:00:00'", "'00:00:00'",
    "'2020-02-29 10:11:12.1234567'", "DATE '2020-02-29'", "DATE '1970-01-01'",
    "TIMESTAMP '2020-02-29'", "'2020-02-29'::DATE", "TIMESTAMP '2020-02-29 10:11:12.5'",
    "'2020-02-29 10:11:12.5'::TIMESTAMP", "DATE 'infinity'",
    "TIMESTAMP '2020-02-29 10:11:12.5+02'", "'2020-02-29 10:11:12.5'::DATE",
    "CAST('2020-02-29 00:00:00' AS DATE)", "TIMESTAMP '2020-02-29 24:00:00'", *UUIDS,
    "'AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE'", "'aaaaaaaabbbbccccddddeeeeeeeeeeee'",
    "'{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}'", "'urn:uuid:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee'",
    "'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeee'", "'aaaa-aaaabbbb-cccc-dddd-eeeeeeeeeeee'",
]  # fmt: skip

UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=2))
PARAMETERS: list[object] = [
    None, True, False, 0, 1, -1, 2, 10, 127, 128, -129, 255, 256, 16777217, 2**31, 2**53,
    2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64, -(2**63), 2**70, 0.0, -0.0, 0.1, 0.3,
    0.30000000000000004, 1.0, 1.2, 1.25, 1.5, 10.0, -2.25, 16777217.0, 1e10, 2.0**53, 9.3e18,
    float("nan"), float("inf"), float("-inf"), 1e300, float(np.float32(0.1)), Decimal("0.1"),
    Decimal("1"), Decimal("1.5"), Decimal("1.25"), Decimal("1.20"), Decimal("-0.1"),
    Decimal("1E+1"), Decimal("16777217"), Decimal("9007199254740993"), Decimal("999999.99999"),
    Decimal("9007199254740.993"), "", "a", "A", "b", "Z", "zz", "Ä", "é", "e\u0301", "😀", "it's",
    "1", "01", "10", "0.1", "1.5", "true", "nan", "300", "1970-01-01", "2020-02-29", "2021-02-29",
    "2020-02-29 10:11:12.5", "2020-02-29T10:11:12.5", "10:11:12.5", "10:11:12",
    "2020-02-29 10:11:12.5+02", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE", "aaaaaaaabbbbccccddddeeeeeeeeeeee",
    "urn:uuid:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}",
    uuid.UUID("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"), uuid.UUID(int=0),
    uuid.UUID(int=2**128 - 1), dt.date(2020, 2, 29), dt.date(1970, 1, 1), dt.date(1, 1, 1),
    dt.date(9999, 12, 31), dt.datetime(2020, 2, 29), dt.datetime(2020, 2, 29, 10, 11, 12, 500000),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    dt.datetime(2020, 2, 29, 10, 11, 12, 500000, tzinfo=EAST),
    dt.datetime(2020, 2, 29, tzinfo=UTC), dt.time(10, 11, 12), dt.time(10, 11, 12, 500000),
    dt.time(0), dt.time(10, 11, 12, tzinfo=UTC), dt.timedelta(hours=10), b"a", np.int8(1),
    np.int64(2**53 + 1), np.uint64(2**63), np.float32(0.1), np.float64(0.1), np.bool_(True),
    np.str_("a"), np.datetime64("2020-02-29"), np.datetime64("2020-02-29T10:11:12.500000"),
]  # fmt: skip


@dataclass
class Tables:
    """The same rows in plain DuckDB and, indexed, in hybridq."""

    sql_type: str
    plain: duckdb.DuckDBPyConnection
    ours: hybridq.Connection
    everything: bool = True

    def some(self, cases):
        """All cases, or few of them, always the same ones."""
        cases = list(cases)
        if self.everything:
            return cases
        return random.Random(self.sql_type).sample(cases, min(len(cases), 20))

    def expected(self, where: str, parameters: list[object]) -> list[int] | str:
        # DuckDB's client takes no NumPy scalars; ours are what `item` makes of them.
        given = [p.item() if isinstance(p, np.generic) else p for p in parameters]
        try:
            rows = self.plain.execute(f"SELECT id FROM t WHERE {where}", given).fetchall()
        except (duckdb.Error, RuntimeError) as error:
            return f"refused: {type(error).__name__}"
        return sorted(i for (i,) in rows)

    def answer(self, where: str, parameters: list[object]) -> list[int] | str:
        text = f"SELECT id FROM t WHERE {where} ORDER BY v <-> [0.0, 0.0] LIMIT 1000"
        try:
            rows = self.ours.execute(text, parameters).fetchall()
        except hybridq.Error as error:
            return f"refused: {type(error).__name__}"
        return sorted(i for (i,) in rows)

    def wrong(self, where: str, parameters: list[object]) -> str | None:
        """Return what differs; a refusal of DuckDB must be one of ours, of whatever class."""
        expected, got = self.expected(where, parameters), self.answer(where, parameters)
        if expected == got or (isinstance(expected, str) and isinstance(got, str)):
            return None
        return f"{self.sql_type}: {where} {parameters!r}: DuckDB {expected}, hybridq {got}"

    def compiles(self, where: str, parameters: list[object]) -> bool:
        select = f"SELECT id FROM t WHERE {where} ORDER BY v <-> [0.0, 0.0] LIMIT 5"
        text = f"EXPLAIN (FORMAT JSON) {select}"
        explained = json.loads(self.ours.execute(text, parameters).fetchone()[1])
        return all(c.get("rejected_because") is None for c in explained["candidates"])


def build(sql_type: str, values: list[str], *, everything: bool = True) -> Tables:
    plain, ours = duckdb.connect(), hybridq.connect()
    rows = [f"({i}, CAST({x} AS {sql_type}), [{i}, 1])" for i, x in enumerate([*values, "NULL"])]
    # Nothing in the table may depend on the position of a value, nor on its being there once.
    rows += [f"({100 + i}, CAST({x} AS {sql_type}), NULL)" for i, x in enumerate([*values, "NULL"])]
    for con in (plain, ours):
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, x {sql_type}, v FLOAT[2])")
        con.execute(f"INSERT INTO t VALUES {', '.join(rows)}")
    ours.execute("CREATE INDEX i ON t USING ann (v) INCLUDE (x)")
    return Tables(sql_type, plain, ours, everything)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((sql_type, size), id=f"{sql_type}-{size}", marks=marks)
        for sql_type in VALUES
        for size, marks in (("some", ()), ("all", pytest.mark.slow))
    ],
)
def tables(request):
    sql_type, size = request.param
    built = build(sql_type, VALUES[sql_type], everything=size == "all")
    yield built
    built.plain.close()
    built.ours.close()


def report(found: list[str | None]) -> None:
    wrong = [f for f in found if f is not None]
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:40])


def test_comparison_with_literal(tables):
    report(
        [
            tables.wrong(f"x {op} {literal}", [])
            for literal, op in tables.some(itertools.product(LITERALS, OPERATORS))
        ]
    )


def test_comparison_with_parameter(tables):
    report(
        [
            tables.wrong(f"x {op} ?", [value])
            for value, op in tables.some(itertools.product(PARAMETERS, OPERATORS))
        ]
    )


def test_comparison_with_value_on_the_left(tables):
    own = [f"CAST({v} AS {tables.sql_type})" for v in VALUES[tables.sql_type][:3]]
    found = [
        tables.wrong(f"{value} {op} x", [])
        for value, op in tables.some(itertools.product([*own, *LITERALS[::7]], OPERATORS))
    ]
    found += [
        tables.wrong(f"? {op} x", [p])
        for p, op in tables.some(itertools.product(PARAMETERS[::9], OPERATORS))
    ]
    report(found)


def test_comparison_with_own_values(tables):
    """Every value of the column itself, as the object DuckDB's client gives for it."""
    objects = [x for (x,) in tables.plain.execute("SELECT DISTINCT x FROM t").fetchall()]
    report(
        [
            tables.wrong(f"x {op} ?", [value])
            for value, op in tables.some(itertools.product(objects, OPERATORS))
        ]
    )


def test_in_and_between(tables):
    """IN and BETWEEN find one type for all their values before they compare."""
    chosen = random.Random(tables.sql_type)
    accepted = [
        (text, given)
        for text, given in tables.some(
            [*((t, []) for t in LITERALS), *(("?", [p]) for p in PARAMETERS)]
        )
        if not isinstance(tables.expected(f"x = {text}", given), str)
    ]
    found = []
    for _ in range(400 if tables.everything else 30):
        picked = chosen.choices(accepted, k=chosen.choice((2, 2, 3)))
        values = [text for text, _ in picked]
        given = [v for _, parameters in picked for v in parameters]
        found.append(tables.wrong(f"x IN ({', '.join(values)})", given))
        if len(values) == 2:
            found.append(tables.wrong(f"x BETWEEN {values[0]} AND {values[1]}", given))
    report(found)


EXPRESSIONS = [
    "10 + 5", "1.5 * 2", "1.5 + 1e0", "2 ** 3", "10 / 4", "10 // 4", "7 % 4", "-(5)", "- -1",
    "'a' || 'b'", "DATE '2020-02-28' + 1", "DATE '2020-02-28' + INTERVAL 1 DAY", "TRUE",
    "TIMESTAMP '2020-02-29 10:11:12' + INTERVAL 500 MILLISECOND", "CAST(1 AS HUGEINT)",
    "CAST(1.25 AS DECIMAL(30,10))", "CAST(0.1 AS FLOAT) + 0", "CAST('infinity' AS DATE)",
    "CAST('-infinity' AS TIMESTAMP)", "CAST('1e5' AS DOUBLE)", "9223372036854775807 + 0",
    "CAST(300 AS SMALLINT)", "0.1 + 0.2", "1 / 0", "1 % 0", "NULL + 1", "CAST(NULL AS DATE)",
    "CAST('2020-02-29' AS TIMESTAMP_S)", "1e308 * 10", "CAST('1 day' AS INTERVAL)",
]  # fmt: skip


def test_constant_expressions(tables):
    """DuckDB evaluates them; their type, not only their value, decides how they compare."""
    chosen = random.Random(tables.sql_type)
    typed = [f"CAST({v} AS {kind})" for kind, values in VALUES.items() for v in values]
    found = []
    for _ in range(300 if tables.everything else 30):
        one, other = (chosen.choice([chosen.choice(typed), *EXPRESSIONS]) for _ in range(2))
        op = chosen.choice([*OPERATORS, "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
        found.append(tables.wrong(f"x {op} {one}", []))
        found.append(tables.wrong(f"NOT ({one} {chosen.choice(OPERATORS)} x)", []))
        found.append(tables.wrong(f"x {chosen.choice(('', 'NOT '))}IN ({one}, {other})", []))
        found.append(tables.wrong(f"x NOT BETWEEN {one} AND {other}", []))
    report(found)


def test_null_tests_and_negation(tables):
    wheres = [
        "x IS NULL",
        "x IS NOT NULL",
        "NOT (x IS NULL)",
        "NOT (x = x)",
        "x IS DISTINCT FROM NULL",
    ]
    own = f"CAST({VALUES[tables.sql_type][0]} AS {tables.sql_type})"
    for op in OPERATORS:
        wheres += [f"NOT (x {op} {own})", f"x {op} {own} OR x IS NULL", f"(x {op} {own}) IS NULL"]
        wheres += [f"x {op} {own} AND id > 2", f"NOT (x {op} {own} AND id > 2)"]
    wheres += [f"x NOT IN ({own})", f"x NOT IN ({own}, NULL)", f"x IN ({own}, NULL)"]
    wheres += [f"x NOT BETWEEN {own} AND {own}", f"x BETWEEN NULL AND {own}"]
    report([tables.wrong(where, []) for where in tables.some(wheres)])


@pytest.mark.parametrize("sql_type", ["FLOAT", "DOUBLE"])
def test_decimal_constants_round_as_duckdb_rounds_them(sql_type):
    chosen = random.Random(7)
    numbers = {f"{chosen.randrange(10 ** chosen.randint(1, 18))}" for _ in range(20)}
    texts = [f"{n[:at]}.{n[at:]}" for n in sorted(numbers) for at in (0, len(n) // 2, len(n) - 1)]
    plain, ours = duckdb.connect(), hybridq.connect()
    tables = Tables(sql_type, plain, ours)
    for con in (plain, ours):
        con.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, x {sql_type}, v FLOAT[2])")
        values = ", ".join(f"({i}, CAST({t} AS {sql_type}), [1, 1])" for i, t in enumerate(texts))
        con.execute(f"INSERT INTO t VALUES {values}")
    ours.execute("CREATE INDEX i ON t USING ann (v)")
    found = [tables.wrong(f"x = {t}", []) for t in texts]
    found += [tables.wrong("x = ?", [Decimal(t)]) for t in texts]
    report(found)
    plain.close()
    ours.close()


def test_boolean_column_alone():
    t = build("BOOLEAN", VALUES["BOOLEAN"])
    report(
        [
            t.wrong(w, [])
            for w in ("x", "NOT x", "x = true", "x IS TRUE", "x IS NOT FALSE", "x AND id < 2")
        ]
    )
    t.plain.close()
    t.ours.close()


@pytest.mark.parametrize("how", ["INCLUDE", "default"])
@pytest.mark.parametrize("collation", ["NOCASE", "NOACCENT", "NOCASE.NOACCENT"])
def test_collated_text(collation, how):
    plain, ours = duckdb.connect(), hybridq.connect()
    rows = ", ".join(f"({i}, {x}, [{i}, 1])" for i, x in enumerate(TEXTS))
    for con in (plain, ours):
        con.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, x VARCHAR COLLATE {collation}, v FLOAT[2])"
        )
        con.execute(f"INSERT INTO t VALUES {rows}")
    ours.execute("CREATE INDEX i ON t USING ann (v)" + (" INCLUDE (x)" if how == "INCLUDE" else ""))
    t = Tables(f"COLLATE {collation}", plain, ours)
    found = [t.wrong(f"x {op} {v}", []) for v, op in itertools.product(TEXTS, OPERATORS)]
    found += [t.wrong(f"x {op} ?", [v]) for v, op in itertools.product(["a", "A", "Ä"], OPERATORS)]
    report(found)
    plain.close()
    ours.close()


@pytest.mark.parametrize(
    ("sql_type", "where", "parameters"),
    [
        ("INTEGER", "x < 5", []),
        ("INTEGER", "x = ?", [3]),
        ("BIGINT", "x BETWEEN 1 AND 100", []),
        ("DOUBLE", "x >= ?", [0.5]),
        ("FLOAT", "x < ?", [0.5]),
        ("FLOAT", "x < 0.5", []),
        ("DECIMAL(9,4)", "x <= 1.25", []),
        ("DATE", "x > DATE '2020-01-01'", []),
        ("DATE", "x > ?", [dt.date(2020, 1, 1)]),
        ("TIMESTAMP", "x > TIMESTAMP '2020-01-01 00:00:00'", []),
        ("TIMESTAMP", "x > ?", [dt.datetime(2020, 1, 1)]),
        ("VARCHAR", "x = 'a'", []),
        ("VARCHAR", "x IN ('a', ?)", ["b"]),
        ("UUID", "x = ?", [uuid.UUID(int=0)]),
        ("BOOLEAN", "x", []),
        ("BOOLEAN", "x = ?", [True]),
        ("ENUM('b', 'a', 'Z', 'it''s', '1')", "x = 'a'", []),
        ("INTEGER", "x IS NULL AND id > 1", []),
    ],
)
def test_common_leaves_compile(sql_type, where, parameters):
    t = build(sql_type, VALUES[sql_type])
    assert t.compiles(where, parameters)
    t.plain.close()
    t.ours.close()
