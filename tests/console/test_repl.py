from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("prompt_toolkit")

from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from hybridq.console import controls, describe, pictures, repl  # noqa: F401 - they register commands
from hybridq.console.shell import Shell

CTRL_C, CTRL_D, ENTER, ALT_ENTER, TAB = "\x03", "\x04", "\r", "\x1b\r", "\t"


@pytest.fixture
def type_keys(shell: Shell, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[str, str]]:
    """Run the loop on keys; return what was written to stdout and stderr."""

    def run(keys: str) -> tuple[str, str]:
        shell.options.format = "csv"
        with create_pipe_input() as pipe:
            pipe.send_text(keys)
            repl.run(shell, keys=pipe, screen=DummyOutput())
        out, err = capsys.readouterr()
        return out, err

    return run


def test_statements_may_take_several_lines(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, err = type_keys(f"select 1{ENTER}+ 1 as n{ENTER};{ENTER}{CTRL_D}")
    assert (out, err) == ("n\n2\n", "")


def test_semicolons_in_quotes_end_nothing(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, _ = type_keys(f"select ';{ENTER};' as s;{ENTER}{CTRL_D}")
    assert out == 's\n";\n;"\n'


def test_several_statements_at_once(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, err = type_keys(f"select 1 a; select nope; select 3 c;{ENTER}select 4 d;{ENTER}{CTRL_D}")
    assert out == "a\n1\nd\n4\n"
    assert err.count("ERROR: ") == 1


def test_ctrl_c_forgets_what_was_typed(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, err = type_keys(f"select 1{ENTER}{CTRL_C}select 2 as n;{ENTER}{CTRL_D}")
    assert (out, err) == ("n\n2\n", "")


@pytest.mark.parametrize("word", ["\\q", ".quit", ".exit", "exit", "quit", "EXIT;"])
def test_words_that_leave(
    shell: Shell, type_keys: Callable[[str], tuple[str, str]], word: str
) -> None:
    type_keys(f"{word}{ENTER}select 1;{ENTER}")
    assert shell.leaving


def test_commands_need_no_semicolon(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, _ = type_keys(f"\\timing off{ENTER}.timer on{ENTER}help{ENTER}{CTRL_D}")
    assert out.startswith("timing is off\ntiming is on\n")
    assert "\\img" in out


def test_a_command_may_come_between(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, _ = type_keys(f"select 5{ENTER}\\echo hi{ENTER}as n;{ENTER}{CTRL_D}")
    assert out == "hi\nn\n5\n"


def test_reset_forgets_the_statement(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, err = type_keys(f"select 5{ENTER}\\r{ENTER}select 6 n;{ENTER}{CTRL_D}")
    assert (out, err) == ("n\n6\n", "")


def test_alt_enter_adds_a_line(type_keys: Callable[[str], tuple[str, str]]) -> None:
    out, _ = type_keys(f"select 1 a;{ALT_ENTER}select 2 b;{ENTER}{CTRL_D}")
    assert out == "a\n1\nb\n2\n"


def test_the_prompt_shows_the_transaction(shell: Shell) -> None:
    def text() -> str:
        return "".join(part[1] for part in repl.prompt(shell))

    assert text() == "hybridq> "
    shell.run_text("begin;")
    assert text() == "hybridq*> "
    shell.run_text("select nope;")
    assert text() == "hybridq!> "
    shell.run_text("rollback;")
    assert text() == "hybridq> "


def test_history_is_kept_for_its_owner(
    type_keys: Callable[[str], tuple[str, str]], tmp_path: Path
) -> None:
    type_keys(f"select 1{ENTER}as a;{ENTER}{CTRL_D}")
    history = tmp_path / "history"
    assert "+select 1\n+as a;\n" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_an_unwritable_history_does_not_matter(
    type_keys: Callable[[str], tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRIDQ_HISTORY", str(tmp_path))
    out, err = type_keys(f"select 1 a;{ENTER}{CTRL_D}")
    assert (out, err) == ("a\n1\n", "")


def test_where_history_is_kept() -> None:
    home = Path.home() / ".hybridq_history"
    assert repl.history_path({}) == home
    assert repl.history_path({"XDG_STATE_HOME": "/state"}) == Path("/state/hybridq/history")
    assert repl.history_path({"XDG_STATE_HOME": "/state", "HYBRIDQ_HISTORY": "/h"}) == Path("/h")
    assert repl.history_path({"HYBRIDQ_HISTORY": ""}) is None
    assert os.fspath(home)
