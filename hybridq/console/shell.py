"""One session of the console: runs statements and commands, shows results, says what failed.

It knows nothing of keys and prompts; `repl` drives it for people, `main` for scripts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

from hybridq.console import export, render, terminal, thumbnails
from hybridq.console.commands import run_command
from hybridq.console.images import sniff
from hybridq.console.messages import counted, duration, notice, report
from hybridq.console.splitter import CommandLine, Item, Statement, split, split_lines
from hybridq.console.values import Column, columns_of
from hybridq.console.worker import Connection, Cursor, Worker
from hybridq.errors import Error, OperationalError, ProgrammingError

T = TypeVar("T")

FORMATS = ("table", *export.WRITERS)
MOST_ROWS = 100

_BATCH_ROWS = 1024
_BATCH_ROWS_OF_BLOBS = 16
_COUNTING_SECONDS = 1.0
_THUMBNAIL = (16, 8)
_THUMBNAIL_LINES = 2
_READING = ("select", "from", "with", "explain", "show", "values", "describe", "set", "pragma")


@dataclass
class Options:
    """What the console's commands can change."""

    format: str = "table"
    expanded: bool = False
    timing: bool = False
    max_rows: int | None = None
    null: str = "NULL"
    thumbnails: bool = True
    stop_on_error: bool = True
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The rows that were last shown, for commands that look at them again."""

    columns: list[Column] = field(default_factory=list)
    rows: list[Sequence[Any]] = field(default_factory=list)


class Shell:
    """Runs what is typed or read; `leaving` is set when the session is to end."""

    def __init__(
        self,
        worker: Worker,
        connect: Callable[[str], Connection],
        database: str,
        options: Options,
        *,
        interactive: bool = False,
    ) -> None:
        """Connect to `database`; raises what `connect` raises."""
        self.options = options
        self.interactive = interactive
        self.leaving = False
        self.interrupted = False
        self.schema_version = 0
        """Counts what may have changed the names that completion offers."""
        self.result = Result()
        self.unfinished = ""
        """The statement that was being typed when a command came between."""
        self._connect = connect
        self._worker = worker
        self._output: TextIO | None = None
        self._depth = 0
        self.database = database
        self.connection = worker.call(lambda: connect(database))

    # Running

    def run(self, items: Iterable[Item], source: str | None = None) -> bool:
        """Run statements and commands in order; tell whether all of them succeeded.

        `source` names the script they come from.
        """
        succeeded = True
        try:
            for item in items:
                succeeded = self._guarded(item, source) and succeeded
                if self.leaving or self.interrupted:
                    break
                if not succeeded and self.options.stop_on_error:
                    break
        except Error as error:  # from reading the items
            report(error, debug=self.options.debug, source=source)
            succeeded = False
        return succeeded

    def run_text(self, text: str, source: str | None = None) -> bool:
        """Run all of `text`."""
        return self.run(split(split_lines(text)), source)

    def run_file(self, path: str) -> bool:
        """Run a script."""
        self._depth += 1
        try:
            if self._depth > 16:
                raise OperationalError(f"{path}: scripts are nested too deeply")
            with Path(path).expanduser().open("rb") as file:
                return self.run(split(decoded(file, path)), path)
        finally:
            self._depth -= 1

    def _guarded(self, item: Item, source: str | None) -> bool:
        """Run one item; say in one line what went wrong."""
        self.interrupted = False
        self._worker.reset()
        succeeded = True
        began = time.perf_counter()
        try:
            match item:
                case Statement():
                    self._statement(item.text)
                case CommandLine():
                    succeeded = run_command(self, item.text)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            self._cancelled(began)
        except Exception as error:  # noqa: BLE001 - nothing ends a session but its user
            if self._worker.interrupted:
                self._cancelled(began)
            else:
                report(error, debug=self.options.debug, item=item, source=source)
        else:
            if self._worker.interrupted and not self.interrupted:
                self.warn("too late to cancel: the statement was done")
                self.interrupted = True
            return succeeded
        return False

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns on the engine's thread; Ctrl-C interrupts it."""
        return self._worker.call(function, lambda: self.connection.interrupt())

    def query(self, sql: str) -> tuple[list[Column], list[Sequence[Any]]]:
        """Return the columns and all rows of a query of the console's own."""
        cursor = self.call(lambda: self.connection.execute(sql))
        columns = columns_of(cursor.description or ())
        return columns, [row for batch in self._batches(cursor, columns) for row in batch]

    def open(self, database: str) -> None:
        """Go on with another database."""
        if Path(database).resolve() == Path(self.database).resolve() and database != ":memory:":
            raise OperationalError(f"{database} is already open")
        connection = self._worker.call(lambda: self._connect(database))
        old, self.connection, self.database = self.connection, connection, database
        self.schema_version += 1
        self._worker.call(old.close)

    def close(self) -> None:
        """Close the database and what is written to."""
        self.output_to(None)
        if self.connection.in_transaction:
            self.warn("the open transaction is rolled back")
        self._worker.call(self.connection.close)

    # Results

    def _statement(self, sql: str) -> None:
        began = time.perf_counter()
        if any("\ud800" <= character <= "\udfff" for character in sql):
            raise ProgrammingError(
                "the statement is no valid text", hint="is the terminal's encoding UTF-8?"
            )
        if not sql.lstrip("(").lower().startswith(_READING):
            self.schema_version += 1
        cursor = self.call(lambda: self.connection.execute(sql))
        try:
            if cursor.description is None:
                self._status(cursor.rowcount, time.perf_counter() - began)
            else:
                self._show(cursor, columns_of(cursor.description), began)
        finally:
            # Rows that nobody will look at must not be kept for the next statement.
            self.call(cursor.close)

    def _status(self, rowcount: int, seconds: float) -> None:
        if self.interactive:
            done = f"{counted(rowcount, 'row')} affected" if rowcount >= 0 else "OK"
            self.say(done + self._timing(seconds))
        elif self.options.timing:
            self.say("OK" + self._timing(seconds))

    def _show(self, cursor: Cursor, columns: list[Column], began: float) -> None:
        batches = self._batches(cursor, columns)
        writer = export.WRITERS.get(self.options.format)
        if writer is not None:
            self.result = Result()
            for text in writer(columns, (row for batch in batches for row in batch)):
                self.write(text)
            if self.options.timing:
                self.say("done" + self._timing(time.perf_counter() - began))
            return
        rows, total, more = _first_rows(batches, self.row_limit(), cursor.rowcount)
        self.result = Result(columns, rows)
        seconds = time.perf_counter() - began
        if [column.name for column in columns] == ["explain_key", "explain_value"]:
            for row in rows:
                self.write(str(row[1]).rstrip("\n") + "\n")
            if self.options.timing:
                self.say(duration(seconds))
            return
        left_out = self.show(columns, rows, types=True)
        footer = f"more than {counted(total, 'row')}" if more else counted(total, "row")
        if len(rows) < total:
            footer += f", the first {len(rows):,} shown"
        if left_out:
            footer += f", {left_out} of {counted(len(columns), 'column')} left out (\\x shows all)"
        if self._output is None:
            self.write(footer + self._timing(seconds) + "\n")
            self._thumbnails(columns, rows)
        else:
            self.write(footer + "\n")
            if self.interactive:
                self.say(footer + self._timing(seconds))

    def show(self, columns: list[Column], rows: list[Sequence[Any]], *, types: bool = False) -> int:
        """Draw rows as the options say; return how many columns were left out."""
        canvas = self.canvas()
        if self.options.expanded:
            lines, hidden = list(render.expanded(columns, rows, canvas)), 0
        else:
            lines, hidden = render.table(columns, rows, canvas, types=types)
        self.write("".join(line + "\n" for line in lines))
        return hidden

    def canvas(self) -> render.Canvas:
        """Return what the present output can show."""
        stream = self._stream()
        return render.Canvas(
            width=terminal.columns() if stream.isatty() else None,
            colour=terminal.has_colour(stream),
            unicode=terminal.can_encode(stream, "┼…×"),
            null=self.options.null,
        )

    def _thumbnails(self, columns: list[Column], rows: list[Sequence[Any]]) -> None:
        how = terminal.pictures(sys.stdout)
        if not self.options.thumbnails or how == "none" or not self.interactive:
            return
        found: list[tuple[str, bytes]] = []
        label = next((i for i, c in enumerate(columns) if c.type == "VARCHAR"), None)
        width = terminal.columns()
        most = max(1, width // (_THUMBNAIL[0] + 2)) * _THUMBNAIL_LINES
        for number, row in enumerate(rows, 1):
            caption = f"{number} {row[label]}" if label is not None else str(number)
            blobs = [v for v, c in zip(row, columns, strict=True) if c.type == "BLOB" and v]
            found.extend(
                [(caption, bytes(blob)) for blob in blobs if sniff(bytes(blob[:4096]))][:1]
            )
            if len(found) == most:
                break
        for text in thumbnails.gallery(found, how, width, _THUMBNAIL):
            self.write(text)

    def row_limit(self) -> int | None:
        """Return after how many rows a table is cut, None for never."""
        if self.options.max_rows is not None:
            return self.options.max_rows or None
        return MOST_ROWS if self._stream().isatty() else None

    def _batches(self, cursor: Cursor, columns: list[Column]) -> Iterator[Sequence[Sequence[Any]]]:
        size = _BATCH_ROWS_OF_BLOBS if any(c.type == "BLOB" for c in columns) else _BATCH_ROWS
        while batch := self.call(lambda: cursor.fetchmany(size)):
            if self._worker.interrupted:  # rows already in memory know of no interrupt
                raise KeyboardInterrupt
            yield batch

    # Output

    def _stream(self) -> TextIO:
        return self._output or sys.stdout

    def write(self, text: str) -> None:
        """Write part of a result."""
        self._stream().write(text)

    def say(self, text: str) -> None:
        """Tell the user something that is no result."""
        (sys.stdout if self.interactive else sys.stderr).write(text + "\n")

    def warn(self, text: str) -> None:
        """Tell the user something to mind."""
        sys.stdout.flush()
        notice(text)

    def output_to(self, path: str | None) -> None:
        """Send results to a file from now on, or back to the terminal."""
        new = None if path is None else Path(path).expanduser().open("w", encoding="utf-8")
        if self._output is not None:
            self._output.close()
        self._output = new

    def _timing(self, seconds: float) -> str:
        return f" ({duration(seconds)})" if self.options.timing else ""

    def _cancelled(self, began: float) -> None:
        self.interrupted = True
        sys.stdout.flush()
        after_echo = "\n" if sys.stderr.isatty() else ""  # the terminal has written ^C
        sys.stderr.write(f"{after_echo}cancelled after {duration(time.perf_counter() - began)}\n")


def _first_rows(
    batches: Iterator[Sequence[Sequence[Any]]], limit: int | None, known: int
) -> tuple[list[Sequence[Any]], int, bool]:
    """Return the rows up to `limit`, how many there are, and whether there are more than that.

    Counting the rest ends after a while: nobody waits for the number of rows they do not see.
    """
    rows: list[Sequence[Any]] = []
    total = 0
    deadline: float | None = None
    for batch in batches:
        total += len(batch)
        rows.extend(batch if limit is None else batch[: limit - len(rows)])
        if limit is not None and total > limit:
            if known >= total:
                return rows, known, False
            deadline = deadline or time.monotonic() + _COUNTING_SECONDS
            if time.monotonic() > deadline:
                return rows, total, True
    return rows, total, False


def decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield lines of a script as text; raises OperationalError where they are not UTF-8."""
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise OperationalError(f"{name} is not UTF-8 text (line {number})") from error
