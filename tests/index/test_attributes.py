"""Attributes as keys: what is encoded comes back, and keys have the order of DuckDB's ORDER BY."""

import datetime as dt
import math
import uuid
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from hybridq.errors import DataError
from hybridq.index.attributes import NULL_KEY, attribute_type, decode, encode, find_codes

UTC = dt.UTC
VALUES = {
    "BOOLEAN": [True, False],
    "TINYINT": [-128, -1, 0, 1, 127],
    "SMALLINT": [-(2**15), 0, 2**15 - 1],
    "INTEGER": [-(2**31), -1, 0, 2**31 - 1],
    "BIGINT": [-(2**63) + 1, -1, 0, 2**53 + 1, 2**63 - 1],
    "UTINYINT": [0, 255],
    "USMALLINT": [0, 65535],
    "UINTEGER": [0, 2**32 - 1],
    "UBIGINT": [0, 1, 2**63 - 1, 2**63, 2**64 - 2],
    "FLOAT": [-math.inf, -1.5, -1e-45, 0.0, 1e-45, 0.1, 3e38, math.inf, math.nan],
    "DOUBLE": [-math.inf, -5e-324, 0.0, 5e-324, 0.1, 1e308, math.inf, math.nan],
    "DECIMAL(4,1)": [Decimal("-999.9"), Decimal("0.0"), Decimal("0.1"), Decimal("999.9")],
    "DECIMAL(18,6)": [Decimal("-999999999999.999999"), Decimal("0.000001"), Decimal("7.500000")],
    "DECIMAL(18,0)": [Decimal(-(10**18) + 1), Decimal(0), Decimal(10**18 - 1)],
    "DATE": [dt.date.min, dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date.max],
    "TIME": [dt.time.min, dt.time(12, 30, 1, 5), dt.time.max],
    "TIMESTAMP": [
        dt.datetime(1, 1, 1),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
        dt.datetime(1970, 1, 1),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
    ],
    "VARCHAR": ["", " ", "A", "Z", "a", "ab", "a\0b", "é", "zz", "\uffff", "😀", "it's"],
    "UUID": [uuid.UUID(int=i) for i in (0, 1, 2**64, 2**127 - 1, 2**127, 2**128 - 1)],
    "ENUM('red', 'Blue', 'x''y', 'a,b')": ["red", "Blue", "x'y", "a,b"],
}


def column(sql_type, values):
    """Return (DuckDB's name of the type, the column as DuckDB's Arrow has it, in random order)."""
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE t (n INTEGER, a {sql_type})")
        shuffled = np.random.default_rng(len(values)).permutation(len(values))
        con.executemany(
            "INSERT INTO t VALUES (?, ?)", [(n, values[i]) for n, i in enumerate(shuffled)]
        )
        name = con.execute("SELECT typeof(a) FROM t LIMIT 1").fetchall()[0][0]
        given = [v for (v,) in con.execute("SELECT a FROM t ORDER BY n").fetchall()]
        ordered = [n for (n,) in con.execute("SELECT n FROM t ORDER BY a NULLS FIRST").fetchall()]
        array = con.sql("SELECT a FROM t ORDER BY n").to_arrow_table().column(0)
    return attribute_type(name), array, given, ordered


def same(one, other):
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("sql_type", VALUES)
@pytest.mark.parametrize("nulls", [False, True])
def test_round_trip(sql_type, nulls):
    values = [*VALUES[sql_type], *([None] * nulls)]
    kind, array, given, _ = column(sql_type, values)
    assert kind is not None
    encoded = encode(array, kind)
    assert encoded.keys.dtype == np.int64
    assert (encoded.keys == NULL_KEY).sum() == nulls
    found = decode(encoded.keys, kind, encoded.dictionary)
    assert len(found) == len(given)
    assert all(same(a, b) for a, b in zip(found, given, strict=True))


@pytest.mark.parametrize("sql_type", VALUES)
def test_order_of_keys(sql_type):
    kind, array, _, ordered = column(sql_type, [*VALUES[sql_type], None])
    keys = encode(array, kind).keys
    assert len(set(keys.tolist())) == len(keys)
    assert np.argsort(keys, kind="stable").tolist() == ordered


@pytest.mark.parametrize("sql_type", [t for t in VALUES if t != "BOOLEAN"])
def test_slices_and_chunks(sql_type):
    """Arrow columns come with offsets and in chunks."""
    kind, array, given, _ = column(sql_type, VALUES[sql_type])
    whole = array.combine_chunks()
    sliced = encode(whole.slice(1), kind)
    found = decode(sliced.keys, kind, sliced.dictionary)
    assert all(same(a, b) for a, b in zip(found, given[1:], strict=True))
    chunked = encode(pa.chunked_array([whole.slice(0, 1), whole.slice(1)]), kind)
    found = decode(chunked.keys, kind, chunked.dictionary)
    assert all(same(a, b) for a, b in zip(found, given, strict=True))


@pytest.mark.parametrize("sql_type", VALUES)
def test_nothing_but_nulls_and_nothing_at_all(sql_type):
    kind, array, _, _ = column(sql_type, VALUES[sql_type])
    for count in (0, 3):
        encoded = encode(pa.nulls(count, array.type), kind)
        assert encoded.keys.tolist() == [NULL_KEY] * count
        assert decode(encoded.keys, kind, encoded.dictionary) == [None] * count


def test_negative_zero_lies_just_below_zero():
    kind = attribute_type("DOUBLE")
    below, zero, above = encode(pa.array([-0.0, 0.0, 5e-324]), kind).keys.tolist()
    assert below + 1 == zero == above - 1
    assert math.copysign(1, decode(np.array([below]), kind, None)[0]) == -1


def test_every_nan_is_one_key():
    kind = attribute_type("DOUBLE")
    bits = np.array([0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + 5], np.uint64)
    keys = encode(pa.array(bits.view(np.float64)), kind).keys
    assert len(set(keys.tolist())) == 1
    assert keys[0] > encode(pa.array([math.inf]), kind).keys[0]


@pytest.mark.parametrize(("sql_type", "value"), [("BIGINT", -(2**63)), ("UBIGINT", 2**64 - 1)])
def test_what_cannot_be_held_is_refused(sql_type, value):
    kind = attribute_type(sql_type)
    array = pa.array([0, value], pa.int64() if value < 0 else pa.uint64())
    with pytest.raises(DataError, match=str(value)) as raised:
        encode(array, kind)
    assert "INCLUDE" in str(raised.value)


@pytest.mark.parametrize(
    "sql_type",
    ["BLOB", "HUGEINT", "DECIMAL(19,2)", "INTERVAL", "INTEGER[]", "STRUCT(a INTEGER)", "TIMETZ"],
)
def test_types_that_are_no_attributes(sql_type):
    with duckdb.connect() as con:
        name = con.execute(f"SELECT typeof(NULL::{sql_type})").fetchall()[0][0]
    assert attribute_type(name) is None


def test_floats_identify_no_row():
    for sql_type in VALUES:
        with duckdb.connect() as con:
            name = con.execute(f"SELECT typeof(NULL::{sql_type})").fetchall()[0][0]
        assert attribute_type(name).identifies == (sql_type not in ("FLOAT", "DOUBLE"))


def test_text_is_found_in_another_dictionary():
    kind = attribute_type("VARCHAR")
    dictionary = encode(pa.array(["b", "a", None, "é"]), kind).dictionary
    assert dictionary.to_pylist() == ["a", "b", "é"]
    assert find_codes(pa.array(["é", "c", None, "a"]), dictionary).tolist() == [2, -1, -1, 0]


def test_timestamps_with_a_zone_order_as_instants():
    kind = attribute_type("TIMESTAMP WITH TIME ZONE")
    instants = [dt.datetime(1969, 1, 1, tzinfo=UTC), dt.datetime(2024, 7, 1, 12, tzinfo=UTC)]
    keys = encode(pa.array(instants, pa.timestamp("us", tz="Europe/Berlin")), kind).keys
    assert (
        keys.tolist()
        == encode(pa.array(instants, pa.timestamp("us", tz="UTC")), kind).keys.tolist()
    )
    assert keys[0] < 0 < keys[1]
