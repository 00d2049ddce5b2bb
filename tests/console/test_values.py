from __future__ import annotations

import csv as python_csv
import io
import json
import math
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.console import export
from hybridq.console.values import Column, cell, to_json, to_text

CASES = [
    ("NULL::INTEGER", "INTEGER", None),
    ("1.5::FLOAT", "FLOAT", 1.5),
    ("0.1::FLOAT", "FLOAT", float(np.float32(0.1))),
    ("1e-7::FLOAT", "FLOAT", float(np.float32(1e-7))),
    ("0.1::DOUBLE", "DOUBLE", 0.1),
    ("true", "BOOLEAN", True),
    ("1.10::DECIMAL(5,2)", "DECIMAL(5,2)", Decimal("1.10")),
    ("'it''s'", "VARCHAR", "it's"),
    ("'\\xFFa\\x22'::BLOB", "BLOB", b'\xffa"'),
]


@pytest.mark.parametrize(("sql", "kind", "value"), CASES)
def test_text_is_duckdbs(sql: str, kind: str, value: object) -> None:
    (row,) = duckdb.connect().execute(f"SELECT ({sql})::VARCHAR").fetchall()
    assert to_text(value, kind) == (row[0] if row[0] is not None else "NULL")


@pytest.mark.parametrize(
    "sql",
    [
        "[1.5, NULL, 0.1]::FLOAT[]",
        "[0.1, 0.2]::FLOAT[2]",
        "[[1, 2], [3]]",
        "['a', 'it''s', 'b\\c', '', 'NULL', NULL, 'a, \"b']",
        "map {'it''s': 1, 'b': 2}",
        "{'a': 0.1::FLOAT, 'b': [0.1]::FLOAT[]}",
        "interval '63 days 1 second'",
        "interval '-1 day'",
        "interval '90 minutes 1.5 seconds'",
        "interval '0 seconds'",
        "timestamp '2020-01-02 03:04:05.678'",
        "date '2020-01-02'",
        "'\\x00\\xFF\\x5C'::BLOB",
        "uuid()",
        "12345678901234567890123::HUGEINT",
    ],
)
def test_text_can_be_cast_back(sql: str) -> None:
    connection = duckdb.connect()
    cursor = connection.execute(f"SELECT {sql} AS v")
    kind = str(cursor.description[0][1])
    rows = cursor.fetchall()
    text = to_text(rows[0][0], kind)
    assert connection.execute(f"SELECT CAST(? AS {kind})", [text]).fetchall() == rows


@given(
    st.one_of(
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.booleans(),
        st.none(),
        st.lists(st.text(), max_size=3),
        st.dictionaries(st.text(), st.integers(), max_size=3),
    )
)
def test_json_can_be_read_back(value: object) -> None:
    assert json.loads(to_json(value, "")) == value


def test_json_has_words_for_what_json_lacks() -> None:
    assert to_json(math.nan, "DOUBLE") == '"nan"'
    assert to_json(-math.inf, "FLOAT") == '"-inf"'
    assert to_json(b"\xff", "BLOB") == '"\\\\xFF"'
    assert to_json('{"a": [1]}', "JSON") == '{"a": [1]}'
    assert to_json("{broken", "JSON") == '"{broken"'
    assert to_json("NaN", "JSON") == '"NaN"'
    assert to_json(0.1, "FLOAT") == "0.1"
    assert to_json(np.array([0.1], np.float32), "FLOAT[1]") == "[0.1]"


def test_vectors_are_shortened_in_cells_only() -> None:
    vector = [0.123456, -0.5, 3.0, 4.0, 5.0]
    assert cell(Column("v", "FLOAT[5]"))(vector) == "[0.123, -0.5, … 5]"
    assert cell(Column("v", "DOUBLE[]"))(tuple(vector)) == "[0.123, -0.5, … 5]"
    assert cell(Column("v", "FLOAT[]"))([None, 1.0, 2.0, 3.0, 4.0]) == "[NULL, 1, … 5]"
    assert cell(Column("v", "FLOAT[2]"))([1.5, 2.5]) == "[1.5, 2.5]"
    assert to_text(vector, "DOUBLE[]") == "[0.123456, -0.5, 3.0, 4.0, 5.0]"


def test_blobs_say_their_size() -> None:
    show = cell(Column("b", "BLOB"))
    assert show(b"") == "<0 bytes>"
    assert show(b"\x00\x01") == "<2 bytes: 00 01>"
    assert show(bytes(2000)).startswith("<2,000 bytes: 00 00")
    assert show(bytes(2000)).endswith("…>")


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))), st.integers()
        ),
        max_size=5,
    )
)
@settings(deadline=None)
def test_csv_can_be_read_back(rows: list[tuple[str | None, int]]) -> None:
    columns = [Column("a,b", "VARCHAR"), Column("n", "BIGINT")]
    text = "".join(export.csv(columns, rows))
    read = list(python_csv.reader(io.StringIO(text, newline="")))
    assert read[0] == ["a,b", "n"]
    assert read[1:] == [[a or "", str(n)] for a, n in rows]


def test_csv_tells_null_from_the_empty_string() -> None:
    columns = [Column("a", "VARCHAR"), Column("b", "VARCHAR")]
    assert list(export.csv(columns, [(None, "")])) == ["a,b\n", ',""\n']


def test_json_rows_have_distinct_keys() -> None:
    columns = [Column(name, "INTEGER") for name in ("a", "a", "a_1", "b")]
    (line,) = export.jsonl(columns, [(1, 2, 3, 4)])
    pairs: list[tuple[str, Any]] = json.loads(line, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == 4
    assert [value for _, value in pairs] == [1, 2, 3, 4]


def test_json_is_an_array() -> None:
    columns = [Column("a", "INTEGER")]
    assert json.loads("".join(export.json(columns, []))) == []
    assert json.loads("".join(export.json(columns, [(1,), (2,)]))) == [{"a": 1}, {"a": 2}]
