"""Random schema, rows and query: hybridq answers as brute force in plain DuckDB does.

Exactly, row for row, where the settings promise that; otherwise by contract: rows that exist and
match, exact distances, in order, and as many as LIMIT asks for while there are that many.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import duckdb
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import given

import hybridq

FLOATS = [0.0, -0.0, 1.5, -2.25, 0.1, math.nan, math.inf, -math.inf, 1e10]
LABELS = ("red", "Blue", "green", "x''y")
ENUM = "ENUM('red', 'Blue', 'green', 'x''y')"

POOLS: dict[str, list[Any]] = {
    "BOOLEAN": [True, False],
    "TINYINT": [-128, -1, 0, 1, 127],
    "SMALLINT": [-5, 0, 7, 32767],
    "INTEGER": [-1, 0, 1, 2, 3, 2**31 - 1],
    "BIGINT": [-(2**62), 0, 5, 2**53, 2**53 + 1],
    "UTINYINT": [0, 1, 255],
    "USMALLINT": [0, 9, 65535],
    "UINTEGER": [0, 9, 2**32 - 1],
    "UBIGINT": [0, 9, 2**63, 2**63 + 9],
    "FLOAT": FLOATS,
    "DOUBLE": [*FLOATS, 0.30000000000000004],
    "DECIMAL(6,2)": [Decimal(t) for t in ("-1.50", "0.00", "0.10", "9.99", "1000.00")],
    "DATE": [dt.date(1969, 12, 31), dt.date(2020, 2, 29), dt.date(2024, 1, 1)],
    "TIME": [dt.time(0), dt.time(10, 11, 12, 500000), dt.time(23, 59, 59)],
    "TIMESTAMP": [dt.datetime(1969, 12, 31, 23), dt.datetime(2020, 2, 29, 10, 11, 12, 500000)],
    "TIMESTAMPTZ": [
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2020, 2, 29, 10, 11, tzinfo=dt.UTC),
    ],
    "VARCHAR": ["", "a", "A", "b", "ab", "Ä", "é", "zz", "😀", "it's"],
    "UUID": [uuid.UUID(int=i * 2**120 + i) for i in (0, 1, 128, 255)],
    ENUM: ["red", "Blue", "green", "x'y"],
}  # fmt: skip
# More kinds of keys than of values: one unique value per row.
KEYS = {
    "INTEGER": lambda i: (i * 7) % 1009 - 500,
    "UBIGINT": lambda i: 2**63 - 150 + (i * 7) % 1009,
    "VARCHAR": lambda i: f"{'Aaéz'[i % 4]}{(i * 7) % 1009}",
    "UUID": lambda i: uuid.UUID(int=((i * 7) % 1009) * 2**117 + i),
    "DATE": lambda i: dt.date(1970, 1, 1) + dt.timedelta(days=(i * 7) % 1009 - 500),
    "DECIMAL(6,2)": lambda i: Decimal((i * 7) % 1009 - 500).scaleb(-2),
}
FUNCTIONS = {"l2": "<->", "cosine": "<=>", "ip": "<#>"}
SMALL = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0])


@dataclass
class Case:
    """A table, its rows and its index."""

    key_columns: list[tuple[str, str]]
    attributes: list[tuple[str, str]]
    vector_type: str
    dim: int
    metric: str
    nlist: int | None
    rows: list[tuple[Any, ...]]
    late_rows: int
    deleted: list[int]

    @property
    def columns(self) -> list[tuple[str, str]]:
        return [*self.key_columns, *self.attributes, ("v", self.vector_type)]

    def create(self, con: Any) -> None:
        con.execute("SET TimeZone = 'UTC'")
        definitions = ", ".join(f"{n} {t}" for n, t in self.columns)
        keys = ", ".join(n for n, _ in self.key_columns)
        con.execute(f"CREATE TABLE t ({definitions}, PRIMARY KEY ({keys}))")

    def insert(self, con: Any, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            arrays = {
                name: _array([row[i] for row in rows], kind)
                for i, (name, kind) in enumerate(self.columns)
            }
            con.register("fresh", pa.table(arrays))
            items = ", ".join(f"CAST({n} AS {t})" for n, t in self.columns)
            con.execute(f"INSERT INTO t SELECT {items} FROM fresh")
            con.unregister("fresh")

    def delete(self, con: Any) -> None:
        keys = [name for name, _ in self.key_columns]
        for i in self.deleted:
            match = " AND ".join(f"{k} = ?" for k in keys)
            con.execute(f"DELETE FROM t WHERE {match}", list(self.rows[i][: len(keys)]))

    def build(self, con: hybridq.Connection) -> None:
        """Part of the rows before CREATE INDEX, the rest and the deletions after it."""
        cut = len(self.rows) - self.late_rows
        self.create(con)
        self.insert(con, self.rows[:cut])
        options = [f"dim = {self.dim}", f"metric = '{self.metric}'"]
        if self.nlist is not None:
            options.append(f"nlist = {self.nlist}")
        if self.vector_type.endswith(f"[{self.dim}]"):
            options.pop(0)
        con.execute(f"CREATE INDEX i ON t USING ann (v) WITH ({', '.join(options)})")
        for start in range(cut, len(self.rows), max(1, self.late_rows // 2)):
            stop = start + max(1, self.late_rows // 2)
            self.insert(con, self.rows[start:stop])
        self.delete(con)


def _array(values: list[Any], kind: str) -> pa.Array:
    if kind == "UUID":
        return pa.array([None if v is None else str(v) for v in values], pa.string())
    if kind.startswith("ENUM"):
        return pa.array(values, pa.string())
    if "[" in kind:
        return pa.array(values, pa.list_(pa.float32()))
    if kind.startswith("U") and kind.endswith("INT"):
        return pa.array(values, pa.uint64())
    if kind.startswith("DECIMAL"):
        return pa.array(values, pa.decimal128(18, 2))
    if kind in ("FLOAT", "DOUBLE"):
        return pa.array(values, pa.float64())
    if all(v is None for v in values):
        return pa.array(values, pa.string())
    return pa.array(values)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    key_types = draw(
        st.one_of(
            st.sampled_from([[k] for k in KEYS]),
            st.lists(st.sampled_from([*KEYS, ENUM]), min_size=2, max_size=3),
        )
    )
    if key_types == [ENUM]:
        key_types = ["INTEGER"]
    attribute_types = draw(st.lists(st.sampled_from(list(POOLS)), max_size=4))
    dim = draw(st.integers(1, 4))
    vectors = draw(st.lists(st.lists(SMALL, min_size=dim, max_size=dim), min_size=1, max_size=12))
    count = draw(st.one_of(st.integers(0, 20), st.integers(20, 300)))
    # One seed per table keeps hypothesis' choice sequence short; the pools are small already.
    chosen = np.random.default_rng(draw(st.integers(0, 2**16)))
    nulls = draw(st.sampled_from([0.0, 0.2, 0.9]))
    jitter = draw(st.booleans())

    def value(kind: str) -> Any:
        pool = POOLS[kind]
        return None if chosen.random() < nulls else pool[chosen.integers(len(pool))]

    def vector() -> list[float] | None:
        if chosen.random() < nulls / 2:
            return None
        picked = np.array(vectors[chosen.integers(len(vectors))], np.float32)
        if jitter:
            picked = picked + chosen.normal(size=dim).astype(np.float32) * np.float32(0.1)
        return picked.tolist()

    order = chosen.permutation(count)
    rows = []
    for i in order.tolist():
        key = []
        for place, kind in enumerate(key_types):
            if place < len(key_types) - 1:
                # All but the last column of a composite key repeat.
                repeated = POOLS[kind] if kind in POOLS else [KEYS[kind](0)]
                key.append(repeated[i % len(repeated)])
            elif kind == ENUM:
                key.append(i)
            else:
                key.append(KEYS[kind](i))
        rows.append((*key, *(value(k) for k in attribute_types), vector()))
    if key_types[-1] == ENUM:
        key_types[-1] = "INTEGER"
    late = draw(st.integers(0, count))
    return Case(
        key_columns=[(f"k{i}", t) for i, t in enumerate(key_types)],
        attributes=[(f"a{i}", t) for i, t in enumerate(attribute_types)],
        vector_type=draw(st.sampled_from([f"FLOAT[{dim}]", "REAL[]"])),
        dim=dim,
        metric=draw(st.sampled_from(list(FUNCTIONS))),
        nlist=draw(st.sampled_from([None, 1, 3, 8])),
        rows=rows,
        late_rows=late,
        deleted=sorted(set(chosen.integers(0, count, count // 6).tolist())) if count else [],
    )


@dataclass
class Query:
    """A WHERE with its parameters, and what is asked for."""

    where: str = "TRUE"
    given: list[Any] = field(default_factory=list)
    vector: list[float] = field(default_factory=list)
    k: int = 10
    offset: int | None = None
    sort: str = ""
    radius: tuple[str, float] | None = None


def literal(value: Any, kind: str) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return f"'{value}'::{kind}"
        case int() | Decimal():
            return str(value)
        case float():
            return repr(value)
        case dt.datetime() if value.tzinfo:
            return f"TIMESTAMPTZ '{value}'"
        case dt.datetime():
            return f"TIMESTAMP '{value}'"
        case dt.date():
            return f"DATE '{value}'"
        case dt.time():
            return f"TIME '{value}'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


@st.composite
def predicates(draw: st.DrawFn, columns: list[tuple[str, str]], depth: int = 2) -> tuple[str, list]:
    shape = draw(st.sampled_from(["leaf", "leaf", "and", "or", "not"] if depth else ["leaf"]))
    if shape == "not":
        text, given = draw(predicates(columns, depth - 1))
        return f"NOT ({text})", given
    if shape in ("and", "or"):
        left, left_given = draw(predicates(columns, depth - 1))
        right, right_given = draw(predicates(columns, depth - 1))
        return f"({left}) {shape.upper()} ({right})", [*left_given, *right_given]
    name, kind = draw(st.sampled_from(columns))
    pool = POOLS.get(kind) or [KEYS[kind](i) for i in range(6)]
    parameters: list[Any] = []

    def operand() -> str:
        value = draw(st.sampled_from([*pool, None]))
        if draw(st.booleans()):
            parameters.append(value)
            return "?"
        return literal(value, kind)

    form = draw(
        st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "in", "between", "null", "other"])
    )
    match form:
        case "in":
            values = ", ".join(operand() for _ in range(draw(st.integers(1, 4))))
            return f"{name} IN ({values})", parameters
        case "between":
            low = operand()
            return f"{name} BETWEEN {low} AND {operand()}", parameters
        case "null":
            return f"{name} IS {draw(st.sampled_from(['', 'NOT ']))}NULL", []
        case "other":
            # Nothing that compiles: an expression, a function.
            other, _ = draw(st.sampled_from(columns))
            others = [
                f"CAST({name} AS VARCHAR) LIKE '%1%'",
                f"hash({name}) % 2 = 0",
                f"hash({name}, {other}) % 4 > 0",
                f"({name} IS NULL) <= ({other} IS NULL)",
            ]
            return draw(st.sampled_from(others)), []
        case _:
            if draw(st.booleans()):
                return f"{name} {form} {operand()}", parameters
            return f"{operand()} {form} {name}", parameters


@st.composite
def queries(draw: st.DrawFn, case: Case) -> Query:
    query = Query(vector=draw(st.lists(SMALL, min_size=case.dim, max_size=case.dim)))
    if case.metric == "cosine" and not any(query.vector):
        query.vector[0] = 1.0
    if draw(st.booleans()) and case.rows:
        known = [row[-1] for row in case.rows if row[-1] is not None and any(row[-1])]
        if known:
            query.vector = draw(st.sampled_from(known[:10]))
    columns = [*case.attributes, *case.key_columns]
    if draw(st.integers(0, 3)):
        query.where, query.given = draw(predicates(columns))
    query.k = draw(st.sampled_from([0, 1, 3, 10, 64, 400]))
    query.offset = draw(st.sampled_from([None, None, 0, 1, 7, 500]))
    sortable = [n for n, t in case.attributes if t != "TIMESTAMPTZ"]
    if sortable and draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(sortable), min_size=1, max_size=2, unique=True))
        query.sort = ", ".join(
            name + draw(st.sampled_from(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]))
            for name in names
        )
    if draw(st.integers(0, 3)) == 0:
        # L2 is computed alike by both; elsewhere a bound that is hit could round either way.
        exact = [0.0, 0.1, 0.5, 1.0, 1.4142135, 3.0, math.inf]
        bounds = exact if case.metric == "l2" else [-1.0371, 0.0013, 0.4871, 1.0371, math.inf]
        bound = draw(st.sampled_from(bounds))
        query.radius = (draw(st.sampled_from(["<", "<="])), bound)
    return query


def select(case: Case, query: Query, select_list: str) -> tuple[str, list[Any]]:
    distance = f"v {FUNCTIONS[case.metric]} ?"
    keys = ", ".join(name for name, _ in case.key_columns)
    where, given = query.where, list(query.given)
    if query.radius is not None:
        where = f"({where}) AND {distance} {query.radius[0]} ?"
        given += [query.vector, query.radius[1]]
    elif where != "TRUE":
        where = f"({where})"
    text = f"SELECT {keys}, {distance} AS d{select_list} FROM t WHERE {where} ORDER BY d"
    if query.sort:
        text += f", {query.sort}"
    text += f" LIMIT {query.k}"
    if query.offset is not None:
        text += f" OFFSET {query.offset}"
    return text, [query.vector, *given]


def brute_force(con: duckdb.DuckDBPyConnection, case: Case, query: Query) -> list[tuple[Any, ...]]:
    """All matching rows in order; no LIMIT."""
    vector = "CAST(CAST(v AS FLOAT[]) AS DOUBLE[])"
    wanted = "CAST(CAST(? AS FLOAT[]) AS DOUBLE[])"
    function = {
        "l2": f"list_distance({vector}, {wanted})",
        "cosine": f"list_cosine_distance({vector}, {wanted})",
        "ip": f"-list_inner_product({vector}, {wanted})",
    }[case.metric]
    # COALESCE because DuckDB's functions raise on NULL; NaN is a zero vector under cosine.
    safe = function.replace("CAST(v AS", f"CAST(COALESCE(v, {[0.0] * case.dim}) AS")
    distance = f"CASE WHEN v IS NULL OR isnan({safe}) THEN NULL ELSE CAST({safe} AS FLOAT) END"
    keys = ", ".join(name for name, _ in case.key_columns)
    attributes = "".join(f", {name}" for name, _ in case.attributes)
    inner = f"SELECT {keys}, {distance} AS d{attributes} FROM t WHERE {query.where}"
    given = [query.vector, query.vector, *query.given]
    condition = ""
    if query.radius is not None:
        condition = f"WHERE d {query.radius[0]} ?"
        given.append(query.radius[1])
    order = ", ".join(x for x in ("d", query.sort, keys) if x)
    return con.execute(f"SELECT * FROM ({inner}) {condition} ORDER BY {order}", given).fetchall()


def ulp(value: float) -> float:
    return float(np.spacing(np.float32(abs(value))))


def near(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    # IP and cosine sums may cancel: what is left differs by roundings of the terms in DOUBLE.
    return abs(left - right) <= ulp(right) + 1e-12 or left == right


def bits(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(v.hex() if isinstance(v, float) else v for v in row) for row in rows]


def assert_same_order(got, expected, query, width) -> None:
    """Rows agree with brute force, distances within an ulp; such neighbours may change places."""
    start = query.offset or 0
    window = expected[start : start + query.k]
    assert len(got) == len(window)
    position = {row[:width]: i for i, row in enumerate(expected)}
    for place, row in enumerate(got):
        found = expected[position[row[:width]]]
        assert near(row[width], found[width]), (row, found)
        if position[row[:width]] != start + place:
            assert found[width] != window[place][width], f"order differs at {place}: {row}"
            assert near(found[width], window[place][width]), f"order differs at {place}: {row}"


def assert_contract(got, expected, query, width) -> None:
    """P1 and P2 for an approximate answer."""
    matching = {row[:width]: row for row in expected}
    assert len(got) == max(0, min(query.k, len(expected) - (query.offset or 0)))
    keys = [row[:width] for row in got]
    assert len(set(keys)) == len(keys)
    for row in got:
        assert row[:width] in matching, f"{row} does not match"
        assert near(row[width], matching[row[:width]][width])
    distances = [math.inf if row[width] is None else row[width] for row in got]
    assert distances == sorted(distances)


EXACT = (
    {"recall": "1"},
    {"recall": "1", "plan": "'exact'"},
    {"recall": "1", "plan": "'prefilter'"},
    {"recall": "1", "plan": "'fused'"},
    {"recall": "1", "plan": "'bitmap'"},
    {"recall": "1", "plan": "'postfilter'"},
    {"nprobe": "1000", "recall": "0.5"},
)
APPROXIMATE = (
    *({"recall": "0.5", "plan": plan} for plan in ("'fused'", "'bitmap'", "'postfilter'")),
    *({"recall": "0.5"}, {"nprobe": "1"}),
)


def run(con, setup, text, given_) -> tuple[str, list[tuple[Any, ...]]] | None:
    """Return who answered and the rows; None where the settings force a plan that cannot run."""
    for name in ("recall", "plan", "nprobe"):
        con.execute(f"SET {name} = {setup[name]}" if name in setup else f"RESET {name}")
    try:
        explained = json.loads(con.execute(f"EXPLAIN (FORMAT JSON) {text}", given_).fetchone()[1])
    except hybridq.ProgrammingError as error:
        if "cannot run" in str(error):
            return None
        raise
    by_duckdb = explained["detail"].get("by_duckdb")
    return "duckdb" if by_duckdb else "index", con.execute(text, given_).fetchall()


@given(st.data())
def test_every_plan_equals_brute_force(data):
    case = data.draw(cases())
    queries_ = data.draw(st.lists(queries(case), min_size=1, max_size=4))
    with hybridq.connect() as ours, duckdb.connect() as plain:
        case.create(plain)
        case.insert(plain, case.rows)
        case.delete(plain)
        case.build(ours)
        width = len(case.key_columns)
        for query in queries_:
            expected = brute_force(plain, case, query)
            text, given_ = select(case, query, "".join(f", {n}" for n, _ in case.attributes))
            answers = []
            for setup in EXACT:
                answer = run(ours, setup, text, given_)
                if answer is not None:
                    answers.append(answer)
            assert len(answers) >= 2
            for _, answer in answers:
                assert_same_order(answer, expected, query, width)
            # Among our own plans also to the bit.
            own = [bits(answer) for by, answer in answers if by == "index"]
            assert all(answer == own[0] for answer in own)
            full = {row[:width]: row for row in expected}
            for _, answer in answers:
                for row in answer:
                    assert bits([row[width + 1 :]]) == bits([full[row[:width]][width + 1 :]])
            for setup in APPROXIMATE:
                found = run(ours, setup, text, given_)
                if found is not None:
                    assert_contract(found[1], expected, query, width)
