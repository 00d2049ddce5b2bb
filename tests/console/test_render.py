from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.console.messages import caret, duration, one_line
from hybridq.console.render import Canvas, expanded, table
from hybridq.console.terminal import display_width, truncate, visible
from hybridq.console.values import Column

KINDS = st.sampled_from(["VARCHAR", "INTEGER", "BLOB"])


@st.composite
def results(draw: st.DrawFn) -> tuple[list[Column], list[list[object]]]:
    columns = draw(st.lists(st.builds(Column, st.text(max_size=20), KINDS), min_size=1, max_size=8))
    values: dict[str, st.SearchStrategy[object]] = {
        "VARCHAR": st.text(max_size=60),
        "INTEGER": st.integers(-(2**31), 2**31),
        "BLOB": st.binary(max_size=30),
    }
    row = st.tuples(*(st.one_of(st.none(), values[column.type]) for column in columns))
    return columns, [list(cells) for cells in draw(st.lists(row, max_size=4))]


@given(results(), st.integers(40, 120))
@settings(deadline=None)
def test_tables_are_rectangles_that_fit(
    result: tuple[list[Column], list[list[object]]], width: int
) -> None:
    columns, rows = result
    lines, hidden = table(columns, rows, Canvas(width=width))
    widths = {display_width(line) for line in lines}
    assert len(widths) == 1
    assert widths.pop() <= width
    assert len(lines) == len(rows) + 5
    assert 0 <= hidden < len(columns)


@given(results())
@settings(deadline=None)
def test_without_a_terminal_nothing_is_cut(
    result: tuple[list[Column], list[list[object]]],
) -> None:
    columns, rows = result
    lines, hidden = table(columns, rows, Canvas())
    assert hidden == 0
    for line, row in zip(lines[4:], rows, strict=False):
        for column, value in zip(columns, row, strict=True):
            if column.type == "VARCHAR" and value is not None:
                assert visible(str(value)) in line


@given(st.text())
def test_data_cannot_drive_the_terminal(text: str) -> None:
    assert all(character.isprintable() or ord(character) > 159 for character in visible(text))
    assert "\x1b" not in visible(text, keep_breaks=True)


@given(st.text(), st.integers(1, 30))
def test_truncation_keeps_to_the_width(text: str, width: int) -> None:
    assert display_width(truncate(text, width)) <= width


def test_numbers_stand_right_and_null_shows() -> None:
    columns = [Column("n", "INTEGER"), Column("name", "VARCHAR")]
    lines, _ = table(columns, [(1, "a"), (None, "NULL")], Canvas(null="∅"))
    assert lines == [
        "┌─────────┬─────────┐",
        "│       n │ name    │",
        "│ integer │ varchar │",
        "├─────────┼─────────┤",
        "│       1 │ a       │",
        "│       ∅ │ NULL    │",
        "└─────────┴─────────┘",
    ]


def test_null_is_dimmed_where_there_are_colours() -> None:
    lines, _ = table([Column("a", "VARCHAR")], [(None,), ("NULL",)], Canvas(colour=True))
    assert "\x1b[2mNULL\x1b[0m" in lines[4]
    assert "\x1b" not in lines[5]


def test_wide_text_gives_way_and_numbers_do_not() -> None:
    columns = [Column("n", "BIGINT"), Column("a", "VARCHAR"), Column("b", "VARCHAR")]
    lines, hidden = table(columns, [(1234567890123, "x" * 100, "y" * 10)], Canvas(width=50))
    assert hidden == 0
    assert "1234567890123" in lines[4]
    assert "y" * 10 in lines[4]
    assert "x…" in lines[4]


def test_columns_without_room_are_left_out_from_the_middle() -> None:
    columns = [Column(f"c{i}", "INTEGER") for i in range(30)]
    lines, hidden = table(columns, [list(range(30))], Canvas(width=60))
    assert hidden > 0
    assert "c0" in lines[1]
    assert "c29" in lines[1]
    assert "│ … │" in lines[1]


def test_plain_boxes_where_the_encoding_has_no_lines() -> None:
    lines, _ = table([Column("é", "VARCHAR")], [("∞",)], Canvas(unicode=False, width=60))
    assert all(line.isascii() for line in lines)
    assert len({len(line) for line in lines}) == 1


def test_wide_characters_keep_columns_straight() -> None:
    lines, _ = table([Column("a", "VARCHAR")], [("日本",), ("e\u0301",)], Canvas())
    assert {display_width(line) for line in lines} == {display_width(lines[0])}


def test_expanded_rows_keep_line_breaks() -> None:
    columns = [Column("name", "VARCHAR"), Column("n", "INTEGER")]
    lines = list(expanded(columns, [("a\nb", None)], Canvas(width=20)))
    assert lines == ["─[ row 1 ]──────────", "name │ a", "     │ b", "n    │ NULL"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0001, "0.1 ms"), (0.0052, "5.2 ms"), (0.05, "50 ms"), (1.5, "1.50 s"), (125, "2 min 5 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_messages_become_one_line() -> None:
    text = "Binder Error: no\n\tsuch\x1b thing\n\nLINE 1: select\n        ^"
    assert one_line(text) == "Binder Error: no such\\x1b thing"
    assert one_line("") == "unknown error"


def test_the_caret_stands_below_its_place() -> None:
    assert caret("select 1,\n  prise", (2, 3), 80) == "    prise\n    ^\n"
    long = caret("x" * 200 + "!" + "y" * 200, (1, 201), 60)
    line, mark = long.splitlines()
    assert line[mark.index("^")] == "!"
    assert len(line) <= 60
    assert caret("select", (7, 1), 80) == ""
