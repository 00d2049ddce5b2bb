"""LIKE without DuckDB gives what DuckDB gives."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybridq.index.patterns import containing, matches

TEXT = st.text(alphabet="abA %é漢\n.*?[$^\\_", max_size=7)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.sets(TEXT, max_size=12), st.text(alphabet="aabA%%%é漢\n.*$^E_", max_size=6))
@example({"a", "aa", "aba"}, "a%a")
@example({"ab", "b", ""}, "%")
@example({"aé", "é"}, "%é%")
@example({"ab", "ca"}, "%bc%")
@example({"a.b", "axb"}, "a%.%b")
def test_like_is_that_of_duckdb(texts, pattern):
    words = sorted(texts, key=str.encode)
    found = matches(pa.array(words, pa.large_string()), pattern)
    if "_" in pattern:
        assert found is None
        return
    expected = duckdb.execute(
        "SELECT w LIKE ? FROM (SELECT unnest(?::TEXT[]) AS w, unnest(range(?)) AS i) ORDER BY i",
        [pattern, words, len(words)],
    ).fetchall()
    assert found.tolist() == [hit for (hit,) in expected]


@pytest.mark.parametrize("pattern", ["a_b", "a\\%b", "%\0%"])
def test_other_patterns_are_left_to_duckdb(pattern):
    assert matches(pa.array(["ab"], pa.large_string()), pattern) is None


def test_texts_of_a_slice():
    texts = pa.array(["xa", "ab", "bc", "ca", "b"], pa.large_string())
    assert containing(texts.slice(1, 3), b"a").tolist() == [True, False, True]
    assert containing(texts.slice(1, 3), b"bb").tolist() == [False] * 3
    assert containing(texts.slice(2, 0), b"a").tolist() == []
