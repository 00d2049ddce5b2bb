from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.console.splitter import (
    CommandLine,
    Splitter,
    Statement,
    is_complete,
    split,
    split_lines,
)


def statements(text: str) -> list[str]:
    return [item.text for item in split(split_lines(text)) if isinstance(item, Statement)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("select 1", ["select 1"]),
        ("select ';'; select \";\"", ["select ';'", 'select ";"']),
        ("select 'it''s;'; x", ["select 'it''s;'", "x"]),
        ("select E'it\\';s'; x", ["select E'it\\';s'", "x"]),
        ("select e'\\\\'; x", ["select e'\\\\'", "x"]),
        ("select '\\'; x", ["select '\\'", "x"]),
        ("select case'e'; x", ["select case'e'", "x"]),
        ("select $$;$$; x", ["select $$;$$", "x"]),
        ("select $a$ ; $$ ; $b$ $a$; x", ["select $a$ ; $$ ; $b$ $a$", "x"]),
        ("select a$b$ from t; x", ["select a$b$ from t", "x"]),
        ("select $1; select $2", ["select $1", "select $2"]),
        ("select 1 -- ; no\n + 1; x", ["select 1 -- ; no\n + 1", "x"]),
        ("select /* ; /* ; */ ; */ 1; x", ["select /* ; /* ; */ ; */ 1", "x"]),
        ("-- only a comment\n/* and\nanother */ ;;; \n", []),
        ("-- first\nselect 1;", ["select 1"]),
        ("select 'a\nb;\nc';", ["select 'a\nb;\nc'"]),
        ("select data->'a'; select x->>'b;'", ["select data->'a'", "select x->>'b;'"]),
    ],
)
def test_statements_end_at_semicolons_outside_of_quotes_and_comments(
    text: str, expected: list[str]
) -> None:
    assert statements(text) == expected


def test_statements_know_where_they_start() -> None:
    items = list(split(split_lines("-- x\n\n  select 1; select\n2;\n\\d\nselect 3")))
    assert items == [
        Statement("select 1", 3, 3),
        Statement("select\n2", 3, 13),
        CommandLine("\\d", 5),
        Statement("select 3", 6, 1),
    ]


def test_commands_are_lines_where_a_statement_may_start() -> None:
    items = list(split(split_lines(".mode csv\n  \\d t;\nselect 1; \\timing on\nselect\n.5;")))
    assert [type(item).__name__ for item in items] == [
        "CommandLine",
        "CommandLine",
        "Statement",
        "CommandLine",
        "Statement",
    ]
    assert items[-1].text == "select\n.5"


def test_a_backslash_at_the_start_of_a_line_interrupts_a_statement() -> None:
    items = list(split(split_lines("select\n\\timing\n1;")))
    assert items == [CommandLine("\\timing", 2), Statement("select\n1", 1, 1)]


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select 1", False),
        ("select 1; select", False),
        ("select ';", False),
        ("select $$;", False),
        ("/* select 1;", False),
        ("\\d", True),
        (".tables", True),
        ("select\n\\q", True),
        ("select 1 -- ;", False),
    ],
)
def test_completeness(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


_PIECES = st.sampled_from(
    [
        *(
            "'a;b'",
            "''",
            "'it''s'",
            "E'\\';'",
            "$$;'$$",
            "$t$ ; $$ $t$",
            '"c;d"',
            "1",
            "a.b",
            "x$y$",
        ),
        *("/* ; ' */", "/* /* ; */ */", "-- ; ' \"\n", "\n", "$1", "->", "e", "E", "(", ")", ","),
    ]
)
_STATEMENT = st.lists(_PIECES, min_size=1, max_size=8).map(lambda parts: " ".join(["v", *parts]))


@given(st.lists(_STATEMENT, max_size=5))
@settings(deadline=None)
def test_splitting_undoes_joining(parts: list[str]) -> None:
    text = "".join(part + "\n;" for part in parts)
    assert statements(text) == [part.rstrip() for part in parts]


@given(
    st.lists(
        st.sampled_from(["1", "'a;'", "$$;$$", "E'\\';'", "/* ; */ 2", "3 -- ;\n"]), max_size=6
    )
)
@settings(deadline=None)
def test_duckdb_splits_alike(values: list[str]) -> None:
    text = "".join(f"select {value}\n;" for value in values)
    assert len(statements(text)) == len(duckdb.extract_statements(text))


@given(st.text(alphabet="ab'\"$;-/*\\.eE \n", max_size=40))
@settings(deadline=None)
def test_any_text_is_split_without_loss(text: str) -> None:
    splitter = Splitter()
    items = [item for line in split_lines(text) for item in splitter.feed(line)]
    items += splitter.finish()
    for item in items:
        assert item.text in text or isinstance(item, Statement)
    assert splitter.idle


@given(st.text(max_size=30))
def test_lines_join_to_the_text(text: str) -> None:
    assert "".join(split_lines(text)) == text
