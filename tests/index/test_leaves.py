"""Leaves as intervals of keys: an interval holds a key exactly if the comparison holds."""

import datetime as dt
import itertools
import uuid
from decimal import Decimal

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from hybridq.conditions import (
    Between,
    Compare,
    Constant,
    InList,
    IsNull,
    LiteralKind,
    Parameter,
)
from hybridq.index.attributes import NULL_KEY, attribute_type, encode
from hybridq.index.intervals import ALL, MIN_KEY, intersect, union
from hybridq.index.leaves import intervals

OPERATORS = ["=", "<>", "<", "<=", ">", ">="]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def whole(low, high):
    return st.one_of(st.integers(low, high), st.sampled_from([low, high, 0]))


VALUES = {
    "BOOLEAN": (st.booleans(), pa.bool_()),
    "TINYINT": (whole(-(2**7), 2**7 - 1), pa.int8()),
    "BIGINT": (whole(-(2**63) + 1, 2**63 - 1), pa.int64()),
    "UBIGINT": (whole(0, 2**64 - 2), pa.uint64()),
    "DECIMAL(4,1)": (
        whole(-9999, 9999).map(lambda n: Decimal(n).scaleb(-1)),
        pa.decimal128(4, 1),
    ),
    "DATE": (st.dates(), pa.date32()),
    "TIME": (st.times(), pa.time64("us")),
    "TIMESTAMP": (st.datetimes(), pa.timestamp("us")),
    "VARCHAR": (TEXT, pa.string()),
    "UUID": (st.uuids(), pa.string()),
    "DOUBLE": (st.floats(allow_nan=False), pa.float64()),
}


def holds(found, key):
    return any(low <= key <= high for low, high in found)


def compared(op, left, right):
    return {
        "=": left == right,
        "<>": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[op]


@pytest.mark.parametrize("sql_type", VALUES)
@given(data=st.data())
def test_comparisons(sql_type, data):
    strategy, arrow_type = VALUES[sql_type]
    values = data.draw(st.lists(strategy, min_size=1, max_size=12))
    value = data.draw(st.one_of(strategy, st.sampled_from(values)))
    op = data.draw(st.sampled_from(OPERATORS))
    plain = [str(v) if isinstance(v, uuid.UUID) else v for v in values]
    kind = attribute_type(sql_type)
    encoded = encode(pa.array([*plain, None], arrow_type), kind)
    leaf = Compare("x", op, Parameter("p"))
    found = intervals(leaf, kind, encoded.dictionary, {"p": value})
    assert found is not None
    assert not holds(found, NULL_KEY)
    assert found == sorted(found)
    for key, x in zip(encoded.keys.tolist(), values, strict=False):
        left, right = (x.encode(), value.encode()) if isinstance(x, str) else (x, value)
        assert holds(found, key) == compared(op, left, right)


def integer_leaf(leaf):
    return intervals(leaf, attribute_type("INTEGER"), None, {})


FIVE = Constant(LiteralKind.INTEGER, "5")
HALF = Constant(LiteralKind.DECIMAL, "5.5")
NULL = Constant(LiteralKind.NULL, "")


def test_null_and_fractions():
    assert integer_leaf(IsNull("x", negated=False)) == [(NULL_KEY, NULL_KEY)]
    assert integer_leaf(IsNull("x", negated=True)) == ALL
    assert integer_leaf(Compare("x", "=", NULL)) == []
    assert integer_leaf(Compare("x", "=", HALF)) == []
    assert integer_leaf(Compare("x", "<", HALF)) == [(MIN_KEY, 5)]
    assert union(integer_leaf(Compare("x", "<>", HALF))) == ALL
    assert integer_leaf(InList("x", (FIVE, NULL))) == [(5, 5)]
    assert integer_leaf(Between("x", FIVE, NULL)) == []


@pytest.mark.parametrize(
    "leaf",
    [
        InList("x", (FIVE, HALF)),
        Between("x", HALF, FIVE),
        Compare("x", "=", Constant(LiteralKind.BOOLEAN, "true")),
        Compare("x", "=", Constant(LiteralKind.STRING, "99999999999")),
        Compare("x", "=", Constant(LiteralKind.DECIMAL, "0.3333333333333333333")),
        Compare("x", "=", Constant(LiteralKind.DATE, "today")),
    ],
)
def test_what_duckdb_must_decide(leaf):
    assert integer_leaf(leaf) is None


def test_dates_and_timestamps_compare_as_instants():
    date = attribute_type("DATE")
    noon = Constant(LiteralKind.TIMESTAMP, "1970-01-02 12:00:00")
    assert intervals(Compare("x", "<", noon), date, None, {}) == [(MIN_KEY, 1)]
    assert intervals(Compare("x", "=", noon), date, None, {}) == []
    east = dt.datetime(1970, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    leaf = Compare("x", "<=", Parameter("p"))
    zoned = attribute_type("TIMESTAMP WITH TIME ZONE")
    assert intervals(leaf, zoned, None, {"p": east}) == [(MIN_KEY, 0)]
    assert intervals(leaf, date, None, {"p": east}) is None


RANGES = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 5)), max_size=6).map(
    lambda found: [(low, low + length) for low, length in found]
)


@given(RANGES, RANGES)
def test_union_and_intersection(left, right):
    both, common = union([*left, *right]), intersect(left, right)
    for key in range(-12, 18):
        assert holds(both, key) == (holds(left, key) or holds(right, key))
        assert holds(common, key) == (holds(left, key) and holds(right, key))
    for found in (both, common):
        assert all(low <= high for low, high in found)
        assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(found))
