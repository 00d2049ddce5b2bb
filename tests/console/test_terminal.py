"""Sessions with the real program on a pseudo terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prompt_toolkit")
if sys.platform == "win32":
    pytest.skip("there are no pseudo terminals", allow_module_level=True)

Start = Callable[..., Any]
LONG = "select count(*) from range(100000000) a, range(1000000) b where a.range + b.range = 3;"
CTRL_C, CTRL_D = "\x03", "\x04"


def test_a_session(terminal: Start, tmp_path: Path) -> None:
    one = terminal("album.db")
    one.expect("album.db (new)")
    one.expect("hybridq>")
    one.type("create table t (id int primary key, v float[2]);\r")
    one.expect("OK (")
    one.type("insert into t values (1, [1, 2]), (2, [3, 4]);\r")
    one.expect("2 rows affected (")
    one.type("select id\rfrom t order by v <-> [3, 3] limit 1;\r")
    one.expect("->")
    one.expect("2 │")
    one.expect("1 row (")
    one.type("begin;\r")
    one.expect("hybridq*>")
    one.type("selec 1;\r")
    one.expect("ERROR: ")
    one.expect("(line 1, column 1)")
    one.expect("^")
    one.expect("hybridq!>")
    one.type("rollback;\r")
    one.expect("hybridq>")
    one.type("\\d\r")
    one.expect("│ t")
    one.expect("hybridq>")
    one.type(CTRL_D)
    assert one.wait() == 0
    assert "Traceback" not in one.text
    assert (tmp_path / "history").exists()


def test_ctrl_c_cancels_and_the_session_goes_on(terminal: Start) -> None:
    one = terminal()
    one.expect("hybridq>")
    one.type(LONG + "\r")
    one.expect(LONG[-12:])
    time.sleep(0.5)
    one.type(CTRL_C)
    one.expect("cancelled after", 10)
    one.expect("hybridq>")
    one.type("select 6 * 7 as answer;\r")
    one.expect("42")
    one.expect("hybridq>")
    one.type("\\q\r")
    assert one.wait() == 0


def test_ctrl_c_ends_a_script(terminal: Start) -> None:
    one = terminal("-c", "select 'begun'", "-c", LONG, "-c", "select 'gone on'")
    one.expect("1 row")
    time.sleep(0.5)
    one.type(CTRL_C)
    assert one.wait(10) == 130
    assert "cancelled after" in one.text
    assert "gone on │" not in one.text


def test_tab_completes(terminal: Start) -> None:
    one = terminal()
    one.expect("hybridq>")
    one.type("create table wonderful (a int);\r")
    one.expect("OK (")
    one.expect("hybridq>")
    one.type("select count(*) as total from wond\t")
    one.expect("erful")
    one.type(";\r")
    one.expect("total")
    one.expect("1 row")
