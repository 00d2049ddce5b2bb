r"""The registry of console commands: `\d images`, `.mode csv`.

A command registers itself with `@command`; help, completion and near matches come from there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridq.errors import ProgrammingError

if TYPE_CHECKING:
    from hybridq.console.shell import Shell

Handler = Callable[["Shell", list[str]], bool | None]
"""Receives the arguments; False says that it failed and has said why."""

_ALIKE = 0.5
_TOLERANCE = 0.05
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|\'((?:[^\']|\'\')*)\'|(\S+)')


@dataclass(frozen=True, slots=True)
class Command:
    """A console command; `names` are its spellings, the first one as help shows it."""

    names: tuple[str, ...]
    usage: str
    summary: str
    run: Handler
    most: int
    files: bool


REGISTRY: dict[str, Command] = {}


def command(
    *names: str, usage: str = "", summary: str, most: int = 1, files: bool = False
) -> Callable[[Handler], Handler]:
    """Register the function below as a command that takes up to `most` arguments.

    `files` says that arguments may name files, for completion.
    """

    def register(run: Handler) -> Handler:
        entry = Command(names, usage, summary, run, most, files)
        for name in names:
            assert name not in REGISTRY, name
            REGISTRY[name] = entry
        return run

    return register


def all_commands() -> list[Command]:
    """Return every command once, in the order of their names."""
    return sorted(set(REGISTRY.values()), key=lambda entry: entry.names[0].lower())


def arguments_of(text: str) -> list[str]:
    """Split arguments at spaces outside of quotes; the quotes themselves are taken off."""
    found: list[str] = []
    for match in _ARGUMENT.finditer(text):
        double, single, bare = match.groups()
        if bare is not None:
            found.append(bare)
        elif double is not None:
            found.append(double.replace('""', '"'))
        else:
            found.append(single.replace("''", "'"))
    return found


def run_command(shell: Shell, line: str) -> bool:
    """Run one command line, tell whether it succeeded; raises ProgrammingError for no command."""
    name, _, rest = line.strip().rstrip(";").strip().partition(" ")
    entry = REGISTRY.get(name) or REGISTRY.get(name.lower())
    if entry is None:
        raise ProgrammingError(f"unknown command {name}", hint=_near(name))
    arguments = arguments_of(rest)
    if len(arguments) > entry.most:
        raise ProgrammingError(
            f"{name} takes {'no argument' if not entry.most else f'up to {entry.most}'}",
            hint=f"{name} {entry.usage}: {entry.summary}",
        )
    return entry.run(shell, arguments) is not False


def _near(name: str) -> str:
    wanted = name[1:].lower()
    known = sorted(entry for entry in REGISTRY if entry[0] == name[0])
    found = [entry for entry in known if wanted and entry[1:].startswith(wanted)][:3]
    if not found:
        alike = {e: difflib.SequenceMatcher(None, wanted, e[1:]).ratio() for e in known}
        best = max(alike.values(), default=0.0)
        found = [e for e in known if alike[e] >= max(best - _TOLERANCE, _ALIKE)][:3]
    if found:
        return (
            "did you mean "
            + ", ".join(found[:-1])
            + (" or " if found[1:] else "")
            + f"{found[-1]}?"
        )
    return r"\? lists the commands"


def switch(arguments: list[str], now: bool) -> bool:
    """Return what on, off or no argument (the opposite of now) means."""
    if not arguments:
        return not now
    word = arguments[0].lower()
    if word in ("on", "true", "1", "yes"):
        return True
    if word in ("off", "false", "0", "no"):
        return False
    raise ProgrammingError(f'"{arguments[0]}" is neither on nor off')
