from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("prompt_toolkit")

from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from hybridq.console import controls, describe, pictures  # noqa: F401 - they register commands
from hybridq.console.catalog import Catalog
from hybridq.console.complete import SqlCompleter
from hybridq.console.shell import Shell


@pytest.fixture
def completer(shell: Shell) -> SqlCompleter:
    shell.run_text(
        'create table books (id int primary key, title text, "Mixed Case" int, v float[3]);'
        "create table authors (id int, pen_name text);"
        "create schema shop; create table shop.orders (amount int);"
    )
    return SqlCompleter(Catalog(shell))


def offers(completer: SqlCompleter, text: str) -> list[str]:
    """Complete at the mark |, at the end where there is none."""
    before, _, after = text.partition("|")
    document = Document(before + after, len(before))
    return [c.text for c in completer.get_completions(document, CompleteEvent())]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("select * from bo", "books"),
        ("select ti| from books", "title"),
        ("select * from books where ti", "title"),
        ("insert into au", "authors"),
        ("select b.ti| from books b", "title"),
        ("select b.ti| from books as b", "title"),
        ("select authors.pe| from authors", "pen_name"),
        ("select * from books, au", "authors"),
        ("select * from shop.or", "orders"),
        ("select l2_dis", "l2_distance"),
        ("set rec", "recall"),
        ("set memory_l", "memory_limit"),
        ("SELE", "SELECT"),
        ("sele", "select"),
        ("create exten", "extension"),
        ("select * from read_par", "read_parquet"),
        ("select 1; select * from bo", "books"),
        ("\\tim", "\\timing"),
        (".tab", ".tables"),
        ("\\d bo", "books"),
        ("\\format cs", "csv"),
        ("\\timing o", "on"),
        ('select "Mix| from books', '"Mixed Case"'),
    ],
)
def test_the_likeliest_name_comes_first(completer: SqlCompleter, text: str, first: str) -> None:
    assert offers(completer, text)[:1] == [first]


def test_nothing_is_offered_in_strings_but_files(completer: SqlCompleter, tmp_path: Path) -> None:
    (tmp_path / "data.parquet").touch()
    assert offers(completer, f"select * from '{tmp_path}/da") == ["ta.parquet"]
    assert offers(completer, "select 'bo") == []
    assert offers(completer, "select 1 -- bo") == []
    assert offers(completer, "select /* bo") == []
    assert offers(completer, f"\\i {tmp_path}/da") == ["ta.parquet"]


def test_names_follow_what_statements_change(shell: Shell, completer: SqlCompleter) -> None:
    assert "films" not in offers(completer, "select * from fi")
    shell.run_text("create table films (a int);")
    assert "films" in offers(completer, "select * from fi")
    shell.run_text("drop table films;")
    assert "films" not in offers(completer, "select * from fi")


def test_a_failed_transaction_does_not_hinder(shell: Shell, completer: SqlCompleter) -> None:
    offers(completer, "select")
    shell.run_text("begin;")
    shell.run_text("select nope;")
    assert offers(completer, "select * from bo") == ["books"]
    assert shell.connection.transaction_failed


def test_columns_of_the_tables_named_come_alone(completer: SqlCompleter) -> None:
    assert "pen_name" not in offers(completer, "select p| from books")
    assert "pen_name" in offers(completer, "select p| from books join authors a on true")
