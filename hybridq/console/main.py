"""The `hybridq` command: reads its arguments, runs scripts or the interactive console."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import hybridq
from hybridq.console import controls, describe, pictures  # noqa: F401 - they register commands
from hybridq.console import progress as bars
from hybridq.console.messages import notice, report
from hybridq.console.shell import FORMATS, Options, Shell, decoded
from hybridq.console.splitter import CommandLine, split
from hybridq.console.worker import Connection, Worker
from hybridq.errors import InterfaceError

FAILED = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

_MEMORY = ":memory:"
_EXTRA = "the interactive console needs {missing}: pip install 'hybridq-engine[console]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console and return the exit status of the program."""
    for stream in (sys.stdout, sys.stderr):
        _make_safe(stream)
    options = _parser().parse_args(arguments)
    _quiet_libraries(debug=options.debug)
    try:
        status = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybridq",
        description="SQL console of hybridq: tables, vectors and images in one query.",
        epilog="Without -c, -f or a pipe on stdin the console is interactive. The exit status is 1 "
        "when a statement failed. HYBRIDQ_HISTORY names the history file, HYBRIDQ_PICTURES how "
        "pictures are shown (kitty, iterm2, sixel, truecolor, 256, none); NO_COLOR is heeded.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "database", nargs="?", default=_MEMORY, help="database file (default: one in memory)"
    )
    parser.add_argument(
        "-c",
        "--command",
        action="append",
        dest="tasks",
        metavar="SQL",
        type=lambda text: ("command", text),
        help="run SQL and leave; may be given several times",
    )
    parser.add_argument(
        "-f",
        "--file",
        action="append",
        dest="tasks",
        metavar="FILE",
        type=lambda text: ("file", text),
        help="run a script and leave (- for stdin)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="how results are written"
    )
    parser.add_argument(
        "--readonly", action="store_true", help="open the database for reading only"
    )
    parser.add_argument(
        "--continue-on-error", action="store_true", help="go on after a statement that failed"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--version", action="version", version=_version())
    return parser


def _version() -> str:
    duckdb = importlib.metadata.version("duckdb")
    return f"hybridq {_own_version()} (DuckDB {duckdb}, Python {platform.python_version()})"


def _own_version() -> str:
    try:
        return importlib.metadata.version("hybridq-engine")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _run(arguments: argparse.Namespace) -> int:
    tasks: list[tuple[str, str]] = arguments.tasks or []
    interactive = not tasks and sys.stdin is not None and sys.stdin.isatty()
    if not tasks and not interactive:
        tasks = [("file", "-")]
    if interactive and not _console_is_installed():
        return USAGE
    options = Options(
        format=arguments.format,
        timing=interactive,
        stop_on_error=not arguments.continue_on_error,
        debug=arguments.debug,
    )
    new = arguments.database != _MEMORY and not Path(arguments.database).exists()

    def connect(database: str) -> Connection:
        return hybridq.connect(
            database, read_only=arguments.readonly, progress=bars.progress_for_terminal()
        )

    worker = Worker()
    try:
        shell = Shell(worker, connect, arguments.database, options, interactive=interactive)
    except Exception as error:  # noqa: BLE001 - whatever it is, one line says it
        report(error, debug=options.debug)
        worker.close()
        return FAILED
    succeeded = True
    try:
        if interactive:
            _interact(shell, new=new)
        else:
            succeeded = _run_tasks(shell, tasks)
    finally:
        shell.close()
        worker.close()
    if shell.interrupted and not interactive:
        return INTERRUPTED
    return 0 if succeeded else FAILED


def _run_tasks(shell: Shell, tasks: Sequence[tuple[str, str]]) -> bool:
    succeeded = True
    for kind, text in tasks:
        if kind == "command":
            done = shell.run_text(text)
        elif text == "-":
            done = shell.run(split(decoded(sys.stdin.buffer, "stdin")), "stdin")
        else:
            quoted = text.replace('"', '""')
            done = shell.run([CommandLine(f'\\i "{quoted}"')])
        succeeded = succeeded and done
        if shell.leaving or shell.interrupted or not (done or not shell.options.stop_on_error):
            break
    return succeeded


def _interact(shell: Shell, *, new: bool) -> None:
    from hybridq.console import repl

    what = shell.database
    if what == _MEMORY:
        what = "in memory, nothing is kept"
    elif new:
        what += " (new)"
    sys.stdout.write(f"hybridq {_own_version()}, {what}\n\\? for help, Ctrl-D or \\q to leave\n")
    repl.run(shell)


def _console_is_installed() -> bool:
    try:
        import prompt_toolkit  # noqa: F401
    except ImportError as error:
        report(InterfaceError(_EXTRA.format(missing=error.name)), debug=False)
        return False
    return True


def _make_safe(stream: TextIO) -> None:
    """Let no character that the terminal's encoding lacks end a session."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _quiet_libraries(*, debug: bool) -> None:
    """Show our own warnings as notices, and none of Python's unless they were asked for."""
    handler = logging.Handler()
    handler.emit = lambda record: notice(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("hybridq")
    logger.addHandler(handler)
    logger.propagate = False
    if debug:
        logger.setLevel(logging.INFO)
    elif not sys.warnoptions:
        warnings.simplefilter("ignore")
