from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hybridq

Runner = Callable[..., Any]


def process(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "hybridq", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=env,
        check=False,
    )


def test_a_statement_gives_a_table(run: Runner) -> None:
    result = run("-c", "select 1 as one, NULL as none")
    assert result.status == 0
    assert result.out.splitlines() == [
        "┌─────────┬──────┐",
        "│     one │ none │",
        "│ integer │ null │",
        "├─────────┼──────┤",
        "│       1 │ NULL │",
        "└─────────┴──────┘",
        "1 row",
    ]
    assert result.err == ""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("csv", "n,s\n1,a\n,\n"),
        ("json", '[{"n": 1, "s": "a"},\n {"n": null, "s": null}]\n'),
        ("jsonl", '{"n": 1, "s": "a"}\n{"n": null, "s": null}\n'),
    ],
)
def test_formats_for_programs(run: Runner, kind: str, expected: str) -> None:
    result = run("--format", kind, "-c", "create table t (n int)", "-c", "insert into t values (1)")
    assert (result.status, result.out, result.err) == (0, "", "")
    result = run("--format", kind, "-c", "from (values (1, 'a'), (NULL, NULL)) t(n, s)")
    assert (result.status, result.out) == (0, expected)


def test_nothing_is_cut_without_a_terminal(run: Runner) -> None:
    result = run("-c", f"select i, '{'x' * 500}' from range(300) t(i)")
    assert result.out.count("x" * 500) >= 300
    assert result.out.endswith("300 rows\n")


def test_several_statements_stop_at_the_first_error(run: Runner) -> None:
    result = run("--format", "csv", "-c", "select 1; selec 2; select 3", "-c", "select 4")
    assert result.status == 1
    assert result.out == "1\n1\n"
    (line,) = result.err.splitlines()
    assert line.startswith("ERROR: ")
    assert line.endswith("(line 1, column 11)")


def test_errors_can_be_passed_over(run: Runner) -> None:
    result = run(
        "--continue-on-error", "--format", "csv", "-c", "selec 2; select 3", "-c", "select 4"
    )
    assert result.status == 1
    assert result.out == "3\n3\n4\n4\n"


ERRORS = [
    "selec 1",
    "select prise from (select 1 as price)",
    "select * from nowhere",
    "select nofunction(1)",
    "select 'x'::int",
    "select 1 +",
    "select 'unended",
    "set recall = 2",
    "set nosetting = 1",
    "create extension nosuch",
    "create index i on nowhere using ann (v)",
    "reindex nosuch",
    "copy nowhere to 'x.csv'",
    "select [1,2] <-> [1,2,3]",
    "insert into t values (1), (1)",
    "insert into t values (2, 3)",
    "attach '/nonexistent/dir/x.db'",
    "select * from 'nofile.parquet'",
    "select ?",
    "select '\udce9'",
    "\\nosuch",
    ".nosuch",
    "\\d nosuch",
    "\\i nosuch.sql",
    "\\format xml",
    "\\timing perhaps",
    "\\d a b c",
    "\\open /nonexistent/dir/x.db",
    "\\o /nonexistent/dir/x",
]


def test_every_error_is_one_line_with_at_most_a_hint(run: Runner) -> None:
    setup = "create table t (i int primary key); insert into t values (1)"
    for text in ERRORS:
        result = run("-c", setup, "-c", text)
        lines = result.err.splitlines()
        assert result.status == 1, text
        assert lines[0].startswith("ERROR: "), (text, result.err)
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("HINT: ")), result.err
        assert "Traceback" not in result.err


def test_unforeseen_errors_are_one_line_too(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("gone")

    monkeypatch.setattr(hybridq.Connection, "execute", fail)
    result = run("-c", "select 1")
    assert result.status == 1
    assert result.err.splitlines() == [
        "INTERNAL ERROR: KeyError: 'gone'",
        "HINT: --debug shows where it comes from",
    ]
    result = run("--debug", "-c", "select 1")
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1] == "INTERNAL ERROR: KeyError: 'gone'"


def test_near_commands_are_offered(run: Runner) -> None:
    result = run("-c", ".tabels")
    assert result.err.splitlines()[1] == "HINT: did you mean .tables?"


def test_scripts_say_where_they_fail(run: Runner, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text("select 1;\n\n.mode csv\nselect 2;\nselect\n  prise;\nselect 3;\n")
    result = run("-f", str(script))
    assert result.status == 1
    assert "2\n2\n" in result.out
    assert "3" not in result.out
    assert f"({script} line 6, column 3)" in result.err


def test_scripts_can_run_scripts(run: Runner, tmp_path: Path) -> None:
    inner, outer = tmp_path / "in ner.sql", tmp_path / "outer.sql"
    inner.write_text("\ufeffcreate table t (a int);\ninsert into t values (7);")
    outer.write_text(f"\\i '{inner}'\n\\format csv\nfrom t;\n.read {tmp_path}/nosuch.sql\nfrom t;")
    result = run("-f", str(outer))
    assert result.status == 1
    assert result.out.endswith("a\n7\n")
    assert "nosuch.sql: No such file or directory" in result.err


def test_a_script_that_reads_itself_ends(run: Runner, tmp_path: Path) -> None:
    script = tmp_path / "loop.sql"
    script.write_text(f"\\i {script}\n")
    result = run("-f", str(script))
    assert result.status == 1
    assert "nested too deeply" in result.err


def test_quit_ends_a_script(run: Runner) -> None:
    result = run("--format", "csv", "-c", "select 1; \\q\nselect 2", "-c", "select 3")
    assert (result.status, result.out) == (0, "1\n1\n")


def test_output_goes_to_a_file_and_back(run: Runner, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    result = run("--format", "csv", "-c", f"\\o {target}\nselect 1 a;\n\\o\nselect 2 b;")
    assert target.read_text() == "a\n1\n"
    assert result.out == "b\n2\n"


def test_commands_change_how_rows_look(run: Runner) -> None:
    result = run("-c", "\\null ?\n\\x on\nselect 1 a, NULL bb;\n\\x off\n.mode jsonl\nselect 2 c;")
    assert "a  │ 1\nbb │ ?\n1 row\n" in result.out
    assert result.out.endswith('{"c": 2}\n')


def test_table_rows_can_be_limited(run: Runner) -> None:
    result = run("-c", "\\maxrows 3\nselect * from range(5000);\n\\maxrows all")
    assert result.out.splitlines()[-1] == "5,000 rows, the first 3 shown"
    assert "tables show all rows" in result.err


def test_timing_is_said_aside(run: Runner) -> None:
    result = run("--format", "csv", "-c", ".timer on\nselect 1;\ncreate table t (a int);")
    assert result.out == "1\n1\n"
    assert result.err.splitlines()[0] == "timing is on"
    assert result.err.splitlines()[-1].startswith("OK (")


def test_help_lists_every_command(run: Runner) -> None:
    result = run("-c", "\\?")
    for name in (
        r"\d",
        r"\di",
        r"\timing",
        r"\x",
        r"\i",
        r"\o",
        r"\img",
        r"\format",
        r"\q",
        ".mode",
    ):
        assert name in result.out
    assert ".tables" in run("-c", "\\? d").out


@pytest.fixture
def library(tmp_path: Path) -> str:
    path = str(tmp_path / "library.db")
    with hybridq.connect(path) as connection:
        connection.execute(
            "create table books (id int primary key, title text not null, v float[3])"
        )
        connection.execute(
            "insert into books select i, 'book ' || i, [i, 0, 1] from range(50) t(i)"
        )
        connection.execute("create index bi on books using ann (v)")
        connection.execute("create view titles as select title from books")
    return path


def test_the_database_describes_itself(run: Runner, library: str) -> None:
    listed = run(library, "-c", "\\d").out
    assert "books" in listed
    assert "titles" in listed
    assert "hybridq" not in listed
    described = run(library, "-c", ".tables BOOKS").out
    assert "FLOAT[3]" in described
    assert "not null" in described
    assert "PRIMARY KEY" in described
    assert "INDEX bi USING ann (v): l2, 3 dimensions, 50 rows" in described
    assert "title" in run(library, "-c", "\\d main.titles").out
    assert "bi" in run(library, "-c", "\\di").out
    schema = run(library, "-c", ".schema").out
    assert "CREATE TABLE books" in schema
    assert "USING ann (v)" in schema
    assert "titles" not in run(library, "-c", ".schema books").out
    assert "did you mean books?" in run(library, "-c", "\\d bokos").err
    assert "library" in run("-c", f".open {library}", "-c", "\\l").out
    assert "recall" in run(library, "-c", "\\settings").out
    assert "l2_distance" in run(library, "-c", "\\df l2*").out


def test_searching_and_explaining(run: Runner, library: str) -> None:
    search = "select id from books order by v <-> [7.2, 0, 1] limit 3"
    assert run(library, "--format", "csv", "-c", search).out == "id\n7\n8\n6\n"
    plan = run(library, "-c", f"explain {search}").out
    assert "TopK" in plan
    assert "│ explain_key" not in plan
    plan = run(library, "--format", "json", "-c", f"explain {search}").out
    assert list(json.loads(plan)[0]) == ["explain_key", "explain_value"]


def test_readonly_refuses_to_write(run: Runner, library: str) -> None:
    result = run("--readonly", library, "-c", "delete from books")
    assert result.status == 1
    assert result.err.startswith("ERROR: ")
    assert run(library, "--format", "csv", "-c", "select count(*) n from books").out == "n\n50\n"


def test_an_open_transaction_is_rolled_back_at_the_end(run: Runner, library: str) -> None:
    result = run(library, "-c", "begin; delete from books")
    assert (result.status, result.err) == (0, "NOTICE: the open transaction is rolled back\n")
    assert run(library, "--format", "csv", "-c", "select count(*) n from books").out == "n\n50\n"


@pytest.mark.parametrize("what", ["folder", "text file", "missing folder", "missing, read-only"])
def test_databases_that_cannot_be_opened(run: Runner, tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    arguments = ["-c", "select 1"]
    if what == "folder":
        path.mkdir()
    elif what == "text file":
        path.write_text("hello" * 1000)
    elif what == "missing folder":
        path = path / "y"
    else:
        arguments.append("--readonly")
    result = run(str(path), *arguments)
    assert result.status == 1
    assert result.err.startswith("ERROR: ")
    assert "Traceback" not in result.err
    assert str(path) in result.err


def test_a_pipe_is_read_as_it_is() -> None:
    result = process(stdin=b"select 'gr\xc3\xbc\xc3\x9fe' as a;\n.mode csv\nselect 1 as b\n")
    assert result.returncode == 0
    assert "grüße" in result.stdout.decode()
    assert result.stdout.endswith(b"b\n1\n")
    assert b"\x1b" not in result.stdout


def test_a_pipe_that_is_no_text() -> None:
    result = process("--format", "csv", stdin=b"select 1;\nselect '\xff';\n")
    assert result.returncode == 1
    assert result.stdout == b"1\n1\n"
    assert result.stderr == b"ERROR: stdin is not UTF-8 text (line 2)\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hybridq", "--format", "csv", "-c", "from range(1000000)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"range\n"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 141


def test_encodings_without_the_characters() -> None:
    import os

    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = process("-c", "select 'é' as a", env=env)
    assert result.returncode == 0
    assert b"| \\xe9" in result.stdout
    assert result.stdout.isascii()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from hybridq.console.main import main

    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("hybridq ")


def test_the_extra_is_named_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hybridq.console.main import main

    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hybridq-engine[console]" in line
    assert main(["-c", "select 1"]) == 0
