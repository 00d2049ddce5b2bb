"""The runner of `*.test` scripts: DuckDB's sqllogictest, run on hybridq and on plain DuckDB.

    # name: tests/sql/topk/forms.test        comments; one file is one test, per configuration
    # description: …
    # group: [topk]
    require numpy                             skip the file without this module
    mirror off                                from here on hybridq only (`mirror on` again)
    restart                                   close and reopen the database file
    foreach x a b c … endloop                 ${x} is replaced, __TEST_DIR__ is an empty folder

    connection two                            the next record runs on the connection `two`
    params [[1, 0], 3]                        its parameters, in JSON; an object for named ones;
                                              {"$bytes": "00ff"} are bytes
    onlyif hybridq | skipif duckdb            the engines it runs on
    xfail reason                              it is known to fail, and must
    statement ok | count N | error [Class]    error: `----` and regular expressions of the message
    query ITR [nosort|rowsort] [prefix] [recall=0.95]
                                              I integer, R real (6 significant digits), T any;
                                              `prefix`: only the first lines are compared

Rows are tab-separated after `----`; `<slt:ignore>` stands for anything. Rows must be the expected
ones on both engines. With `recall`, the rows are those of an approximate TopK whose last column is
the distance, and the contract is checked against DuckDB's answer without LIMIT. A file that has
`restart` or `connection` uses a database file, others one in memory. After every statement outside
a transaction the indexes must hold what their tables hold.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import math
import re
import tomllib
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import hybridq
from tests.equal import differences
from udfs import distance

CONFIGS = Path(__file__).parent / "configs"
IGNORE = "<slt:ignore>"
ENGINES = ("hybridq", "duckdb")
_OURS = re.compile(
    r"\s*(CREATE\s+EXTENSION|REINDEX|EXPLAIN|SHOW|CREATE\s+INDEX.*USING\s+(ann|ivfflat|hnsw)"
    r"|(SET|RESET)\s+(SESSION\s+)?(hybridq\.|(recall|nprobe|plan|calibration|on_bad_input|"
    r"lock_timeout|statement_timeout)\b))",
    re.IGNORECASE | re.DOTALL,
)
_OF_SESSION = re.compile(r"\s*(CREATE\s+TEMP|PREPARE|USE|ATTACH|SET\s+VARIABLE)\b", re.IGNORECASE)
_LIMIT = re.compile(r"\bLIMIT\s+(\d+|\?)\s*$", re.IGNORECASE)


class ScriptError(Exception):
    """The script itself is wrong."""


@dataclass(frozen=True, slots=True)
class Config:
    """Statements said on every new connection, and the files it does not suit."""

    name: str
    sets: tuple[str, ...] = ()
    restart_each: bool = False
    by_default: tuple[str, ...] = ()
    skips: dict[str, str] = field(default_factory=dict)

    def skip_reason(self, path: Path) -> str | None:
        """Return why `path` is not run under this configuration."""
        return next((why for part, why in self.skips.items() if part in path.as_posix()), None)


def config(name: str) -> Config:
    """Read tests/configs/<name>.toml."""
    data = tomllib.loads((CONFIGS / f"{name}.toml").read_text())
    return Config(
        name,
        tuple(data.get("sets", ())),
        data.get("restart_each", False),
        tuple(data.get("by_default", ())),
        data.get("skips", {}),
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One statement or query; `span` are the line indices of its expectation in the file."""

    kind: str
    args: tuple[str, ...]
    line: int
    sql: str = ""
    expected: tuple[str, ...] = ()
    span: tuple[int, int] = (0, 0)
    connection: str = "main"
    params: str | None = None
    engines: tuple[str, ...] = ENGINES
    xfail: str | None = None

    @property
    def values(self) -> Any:
        """The parameters."""
        return None if self.params is None else json.loads(self.params, object_hook=_from_json)


def parse(text: str) -> list[Record]:
    """Return the records of a script, loops unrolled."""
    records, end = _block(text.splitlines(), 0, inside=False)
    assert end == len(text.splitlines())
    return records


def _block(lines: list[str], at: int, *, inside: bool) -> tuple[list[Record], int]:
    records: list[Record] = []
    given: dict[str, Any] = {}
    while at < len(lines):
        words = lines[at].split()
        if not words or words[0].startswith("#"):
            at += 1
            continue
        word, rest = words[0], lines[at].split(None, 1)[1:]
        if word == "endloop" and inside:
            return records, at + 1
        if word == "foreach":
            body, at = _block(lines, at + 1, inside=True)
            for value in words[2:]:
                mark = "${" + words[1] + "}"
                records.extend(_substituted(r, mark, value) for r in body)
        elif word in ("onlyif", "skipif"):
            known = [e for e in ENGINES if (e in words[1:]) == (word == "onlyif")]
            given["engines"] = tuple(known)
            at += 1
        elif word in ("connection", "xfail", "params"):
            given[word] = rest[0]
            at += 1
        elif word in ("statement", "query"):
            start, at = at, at + 1
            body_lines, at = _until_blank(lines, at)
            cut = body_lines.index("----") if "----" in body_lines else len(body_lines)
            first = at - len(body_lines) + cut
            records.append(
                Record(
                    word,
                    tuple(words[1:]),
                    start + 1,
                    "\n".join(body_lines[:cut]),
                    tuple(body_lines[cut + 1 :]),
                    (first, at),
                    **given,
                )
            )
            given = {}
        elif word in ("restart", "require", "mirror"):
            records.append(Record(word, tuple(words[1:]), at + 1))
            at += 1
        else:
            raise ScriptError(f"line {at + 1}: {lines[at]!r} is no record")
    if inside:
        raise ScriptError("foreach without endloop")
    return records, at


def _until_blank(lines: list[str], at: int) -> tuple[list[str], int]:
    start = at
    while at < len(lines) and lines[at].strip():
        at += 1
    return lines[start:at], at


def _substituted(record: Record, mark: str, value: str) -> Record:
    return replace(
        record,
        sql=record.sql.replace(mark, value),
        expected=tuple(e.replace(mark, value) for e in record.expected),
        params=record.params.replace(mark, value) if record.params is not None else None,
    )


def _from_json(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["$bytes"]) if set(value) == {"$bytes"} else value


def formatted(value: Any) -> str:
    """Return a value as scripts write it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}" if math.isfinite(value) else str(value)
        case Decimal() | int():
            return str(value)
        case bytes():
            return "\\x" + value.hex()
        case list() | tuple():
            return "[" + ", ".join(formatted(v) for v in value) + "]"
        case dt.datetime():
            return value.isoformat(sep=" ")
        case "":
            return "(empty)"
        case _:
            return str(value)


def _lines(rows: list[tuple[Any, ...]], *, sort: bool) -> list[str]:
    shown = ["\t".join(formatted(v) for v in row) for row in rows]
    if sort:
        shown.sort()
    return [line or "(empty)" for row in shown for line in row.split("\n")]


def _agrees(expected: str, actual: str) -> bool:
    if IGNORE not in expected:
        return expected == actual
    pattern = ".*".join(re.escape(part) for part in expected.split(IGNORE))
    return re.fullmatch(pattern, actual) is not None


class _Macros:
    """Takes the distance macros of the extension for plain DuckDB."""

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self.duck = duck

    def macro(self, name: str, parameters: tuple[str, ...], body: str) -> None:
        self.duck.execute(f"CREATE MACRO {name}({', '.join(parameters)}) AS {body}")


class Script:
    """Runs the records of one file; `failures` are texts, `actual` is what --complete writes."""

    def __init__(self, path: Path, configuration: Config, folder: Path, *, line: int = 0) -> None:
        self.path, self.config, self.line = path, configuration, line
        self.records = parse(path.read_text().replace("__TEST_DIR__", str(folder)))
        kinds = {r.kind for r in self.records} | {r.connection for r in self.records}
        on_file = configuration.restart_each or bool(
            kinds - {"statement", "query", "require", "mirror", "main"}
        )
        self.database = str(folder / "script.duckdb") if on_file else ":memory:"
        self.connections: dict[str, hybridq.Connection] = {}
        self.said: dict[str, list[str]] = {}
        self.duck = duckdb.connect()
        distance.register(_Macros(self.duck))  # type: ignore[arg-type] # the part of a Registry it uses
        self.mirrors: dict[str, duckdb.DuckDBPyConnection] = {}
        self.mirroring = True
        self.keep = False
        self.failures: list[str] = []
        self.actual: dict[tuple[int, int], list[str]] = {}
        self.recalls: dict[tuple[int, float], list[float]] = {}

    # -- connections ----------------------------------------------------------

    def connection(self, name: str) -> hybridq.Connection:
        if name not in self.connections:
            con = hybridq.connect(self.database)
            self.connections[name] = con
            for text in (*self.config.sets, *self.said.get(name, ())):
                con.execute(text)
        return self.connections[name]

    def mirror(self, name: str) -> duckdb.DuckDBPyConnection:
        if name not in self.mirrors:
            self.mirrors[name] = self.duck.cursor()
        return self.mirrors[name]

    def restart(self) -> None:
        """Close everything; the next records open it again."""
        for con in (*self.connections.values(), *self.mirrors.values()):
            con.close()
        self.connections.clear()
        self.mirrors.clear()

    def reopen(self) -> None:
        """Close the database of hybridq, unless a transaction is open."""
        if all(not c.in_transaction for c in self.connections.values()):
            for con in self.connections.values():
                con.close()
            self.connections.clear()

    def close(self) -> None:
        self.restart()
        self.duck.close()

    # -- records --------------------------------------------------------------

    def run(self) -> None:
        """Run all records, or up to the one on the selected line."""
        for record in self.records:
            if self.line and record.kind == "query" and not self._selected(record):
                continue
            self._run_one(record)
            if self.line and self._selected(record):
                break
        for (line, wanted), seen in self.recalls.items():
            if (mean := sum(seen) / len(seen)) < wanted:
                self.failures.append(
                    f"{self.path}:{line}: mean recall {mean:.3f} of {len(seen)} queries < {wanted}"
                )

    def _selected(self, record: Record) -> bool:
        return record.line <= self.line <= max(record.span[1], record.line)

    def _run_one(self, record: Record) -> None:
        if record.kind == "require":
            if importlib.util.find_spec(record.args[0]) is None:
                pytest.skip(f"{self.path.name} needs {record.args[0]}")
        elif record.kind == "mirror":
            self.mirroring = record.args[0] == "on"
        elif record.kind == "restart":
            self.restart()
            self.said.clear()
        else:
            if self.config.restart_each and not self.keep:
                self.reopen()
            self._checked(record)
            self.keep = self.keep or _OF_SESSION.match(record.sql) is not None

    def _checked(self, record: Record) -> None:
        problems: list[str] = []
        for engine in record.engines:
            theirs = engine == "duckdb"
            if theirs and (not self.mirroring or _OURS.match(record.sql)):
                continue
            problem = self._problem(record, theirs=theirs) or (
                None if theirs or record.kind == "query" else self._difference()
            )
            if problem is not None:
                problems.append(f"on {engine}: {problem}")
        if record.xfail is not None:
            problems = [] if problems else [f"passes, but was to fail: {record.xfail}"]
        place = f"{self.path}:{record.line}:"
        self.failures.extend(f"{place} {p}\n{record.sql}" for p in problems)

    def _difference(self) -> str | None:
        """After a statement outside transactions, indexes hold what their tables hold."""
        connections = list(self.connections.values())
        if not connections or any(c.in_transaction for c in connections):
            return None
        found = differences(connections[0])
        return f"indexes differ from their tables: {found}" if found else None

    def _problem(self, record: Record, *, theirs: bool) -> str | None:
        error: Exception | None = None
        rows: list[tuple[Any, ...]] = []
        count = -1
        try:
            if theirs:
                done = self.mirror(record.connection).execute(record.sql, record.values)
                rows = done.fetchall() if record.kind == "query" else []
                if record.args[0] == "count":
                    count = done.fetchall()[0][0]
            else:
                rows, count = self._execute(record)
        except (hybridq.Error, duckdb.Error) as raised:
            error = raised
        if record.args[0] == "error" and record.kind == "statement":
            return self._error_problem(record, error, theirs=theirs)
        if error is not None:
            return f"{type(error).__name__}: {error}"
        if record.args[0] == "count" and count != int(record.args[1]):
            return f"{count} rows were written, not {record.args[1]}"
        if record.kind == "statement":
            return None
        recall = next((float(a[7:]) for a in record.args if a.startswith("recall=")), None)
        if recall is not None:
            return None if theirs else self._contract_problem(record, rows, recall)
        return self._rows_problem(record, rows, theirs=theirs)

    def _execute(self, record: Record) -> tuple[list[tuple[Any, ...]], int]:
        con = self.connection(record.connection)
        forced = next((s for s in self.config.sets if s.startswith("SET plan")), None)
        try:
            cursor = con.execute(record.sql, record.values)
        except hybridq.ProgrammingError as error:
            if forced is None or "cannot run" not in error.message or con.in_transaction:
                raise
            con.execute("SET plan = 'auto'")
            cursor = con.execute(record.sql, record.values)
            con.execute(forced)
        if forced is not None and record.sql.upper() == "RESET PLAN":
            con.execute(forced)
        if re.match(r"\s*(SET|RESET)\b", record.sql, re.IGNORECASE):
            self.said.setdefault(record.connection, []).append(record.sql)
        return cursor.fetchall() if record.kind == "query" else [], cursor.rowcount

    def _error_problem(
        self, record: Record, error: Exception | None, *, theirs: bool
    ) -> str | None:
        if error is None:
            return "no error was raised"
        if theirs:
            return None
        kind = record.args[1] if len(record.args) > 1 else "Error"
        first = str(error).splitlines()[0]
        if not record.expected:
            self.actual[record.span] = [re.sub(r"([\\^$*+?{}\[\]|()])", r"\\\1", first)]
        if not isinstance(error, getattr(hybridq, kind)):
            return f"{type(error).__name__}, not {kind}: {error}"
        for pattern in record.expected:
            if re.search(pattern, str(error)) is None:
                return f"the message does not have {pattern!r}:\n{error}"
        return None

    def _rows_problem(
        self, record: Record, rows: list[tuple[Any, ...]], *, theirs: bool
    ) -> str | None:
        letters = record.args[0]
        for row in rows[:1]:
            if len(row) != len(letters):
                return f"{len(row)} columns, not {len(letters)}"
        for letter, *values in zip(letters, *rows, strict=True) if rows else ():
            kinds = {"I": int, "R": (float, Decimal)}.get(letter)
            if kinds and not all(v is None or isinstance(v, kinds) for v in values):
                return (
                    f"a column of type {letter} holds {next(v for v in values if v is not None)!r}"
                )
        lines = _lines(rows, sort="rowsort" in record.args)
        if "prefix" in record.args:
            lines = lines[: max(1, len(record.expected))]
        if not theirs or "hybridq" not in record.engines:
            self.actual[record.span] = lines
        same = len(lines) == len(record.expected) and all(map(_agrees, record.expected, lines))
        if same:
            return None
        return "expected\n  {}\nbut got\n  {}".format(
            "\n  ".join(record.expected), "\n  ".join(lines)
        )

    def _contract_problem(
        self, record: Record, rows: list[tuple[Any, ...]], recall: float
    ) -> str | None:
        found = _LIMIT.search(record.sql)
        if found is None:
            raise ScriptError(f"line {record.line}: an approximate query ends with LIMIT")
        params = record.values
        k = found[1]
        if k == "?":
            k, params = params[-1], params[:-1]
        mirror = self.mirror(record.connection)
        every = mirror.execute(record.sql[: found.start()], params).fetchall()
        truth = {row[:-1]: row[-1] for row in every}
        wanted = min(int(k), len(truth))
        if len(rows) != wanted or len({row[:-1] for row in rows}) != wanted:
            return f"{len(rows)} rows where {wanted} match"
        for row in rows:
            if row[:-1] not in truth:
                return f"row {row[:-1]} does not match"
            if not _near(row[-1], truth[row[:-1]]):
                return f"row {row[:-1]} has distance {row[-1]}, not {truth[row[:-1]]}"
        got = [math.inf if r[-1] is None else r[-1] for r in rows]
        if got != sorted(got):
            return f"the distances are not in order: {got}"
        last = sorted(math.inf if d is None else d for d in truth.values())[: max(wanted, 1)]
        right = sum(d <= last[-1] or _near(d, last[-1]) for d in got) if rows else 0
        seen = right / wanted if wanted else 1.0
        self.recalls.setdefault((record.line, recall), []).append(seen)
        return None


def _near(left: float | None, right: float | None) -> bool:
    """Tell whether two distances are within one unit in the last place of FLOAT."""
    if left is None or right is None:
        return left is right
    return abs(left - right) <= float(np.spacing(np.float32(max(abs(left), abs(right)))))


def completed(script: Script) -> str:
    """Return the text of a script with what it gave as its expectations."""
    lines = script.path.read_text().splitlines()
    for (start, stop), actual in sorted(script.actual.items(), reverse=True):
        if any(IGNORE in line for line in lines[start:stop]):
            continue
        lines[start:stop] = ["----", *actual]
    return "\n".join(lines) + "\n"
