"""The console for people: prompt, history, highlighting and completion around a Shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import Lexer, PygmentsLexer
from prompt_toolkit.output import Output
from prompt_toolkit.output.defaults import create_output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from hybridq.console.catalog import Catalog
from hybridq.console.complete import SqlCompleter
from hybridq.console.shell import Shell
from hybridq.console.splitter import Splitter, is_complete, split_lines

_NAME = "hybridq"
_WORDS = {"exit": r"\q", "quit": r"\q", "help": r"\?"}
_STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "prompt.transaction": "bold ansiyellow",
        "prompt.failed": "bold ansired",
        "continuation": "ansibrightblack",
    }
)


def run(shell: Shell, *, keys: Input | None = None, screen: Output | None = None) -> None:
    """Read and run until the user leaves; `keys` and `screen` stand in for a terminal."""
    session: PromptSession[str] = PromptSession(
        history=_history(os.environ),
        lexer=_lexer(),
        completer=SqlCompleter(Catalog(shell)),
        complete_in_thread=True,
        complete_while_typing=False,
        complete_style=CompleteStyle.MULTI_COLUMN,
        reserve_space_for_menu=4,
        multiline=True,
        prompt_continuation=_continuation,
        key_bindings=_bindings(),
        style=_STYLE,
        enable_open_in_editor=True,
        enable_suspend=True,
        input=keys,
        output=screen or create_output(always_prefer_tty=True),
    )
    while not shell.leaving:
        try:
            text = session.prompt(lambda: prompt(shell), default=shell.unfinished)
        except KeyboardInterrupt:
            shell.unfinished = ""
            continue
        except EOFError:
            break
        run_input(shell, text)
        sys.stdout.flush()


def run_input(shell: Shell, text: str) -> None:
    """Run what was typed; a statement left unfinished by a command is typed on."""
    text = _WORDS.get(text.strip().rstrip(";").rstrip().lower(), text)
    splitter = Splitter()
    items = [item for line in split_lines(text) for item in splitter.feed(line)]
    shell.unfinished = "" if splitter.idle else splitter.take().rstrip("\n") + "\n"
    shell.run(items)


def prompt(shell: Shell) -> StyleAndTextTuples:
    """Return the prompt, which tells whether a transaction is open or has failed."""
    if shell.connection.transaction_failed:
        return [("class:prompt", _NAME), ("class:prompt.failed", "!"), ("class:prompt", "> ")]
    if shell.connection.in_transaction:
        return [("class:prompt", _NAME), ("class:prompt.transaction", "*"), ("class:prompt", "> ")]
    return [("class:prompt", f"{_NAME}> ")]


def _continuation(width: int, line_number: int, wrap_count: int) -> StyleAndTextTuples:
    """Return what stands before further lines; an open quote shows, as it swallows semicolons."""
    if wrap_count:
        return [("class:continuation", " " * width)]
    splitter = Splitter()
    for line in get_app().current_buffer.document.lines[:line_number]:
        for _ in splitter.feed(line + "\n"):
            pass
    sign = {"": "-", "E'": "'", "*/": "*"}.get(splitter.quote, splitter.quote)
    return [("class:continuation", f"{sign}> ".rjust(width))]


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        menu = buffer.complete_state
        if menu is not None and menu.current_completion is not None:
            buffer.complete_state = None
        elif may_run(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return bindings


def may_run(text: str) -> bool:
    """Tell whether Enter runs `text` rather than beginning another line."""
    return text.strip().lower() in _WORDS or is_complete(text)


def _lexer() -> Lexer | None:
    try:
        from pygments.lexers.sql import PostgresLexer
    except ImportError:
        return None
    return PygmentsLexer(PostgresLexer)


class _History(FileHistory):
    """A history file that only its owner reads; failing to write it is no reason to stop."""

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        try:
            path = Path(os.fsdecode(self.filename))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            super().store_string(string)
        except OSError:
            pass


def _history(environ: Mapping[str, str]) -> History:
    path = history_path(environ)
    return InMemoryHistory() if path is None else _History(str(path))


def history_path(environ: Mapping[str, str]) -> Path | None:
    """Return where history is kept: HYBRIDQ_HISTORY (empty for nowhere), XDG's place, or home."""
    chosen = environ.get("HYBRIDQ_HISTORY")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    state = environ.get("XDG_STATE_HOME")
    if state:
        return Path(state) / "hybridq" / "history"
    try:
        return Path.home() / ".hybridq_history"
    except RuntimeError:
        return None
