"""Cuts input into statements and console commands.

Knows quotes, dollar quotes and comments, and nothing else of SQL: whether a statement is right is
for the engine to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A word is taken whole, so that the $ in a$b$ opens nothing and only a lone e or E marks a string.
_NEXT = re.compile(r"--|/\*|[eE]'|['\";]|\$(?:[^\W\d]\w*)?\$|\w[\w$]*")
_ESCAPED_STRING_END = re.compile(r"(?:[^'\\]|\\.|'')*'", re.DOTALL)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL without its semicolon; `line` and `column` say where it starts, counted from 1."""

    text: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class CommandLine:
    r"""A line for the console itself, such as `\d images` or `.tables`."""

    text: str
    line: int = 1


Item = Statement | CommandLine


class Splitter:
    """Takes lines, gives statements and commands as soon as they are complete."""

    def __init__(self) -> None:
        self.quote = ""
        """What ends the quote or comment that is open; '' outside of them."""
        self.comment = False
        """Whether the last line fed breaks off in a comment that the line's end would end."""
        self._parts: list[str] = []
        self._started = False
        self._start = (1, 1)
        self._line = 1
        self._comments = 0

    @property
    def idle(self) -> bool:
        """Tell whether no statement and no comment is under way."""
        return not self._started and not self.quote

    def feed(self, line: str) -> Iterator[Item]:
        """Take one line, with its line break, and yield what it completes."""
        begin = position = 0
        self.comment = False
        if self._started and not self.quote and line.startswith("\\"):
            yield CommandLine(line.strip(), self._line)
            position = begin = len(line)
        while position < len(line):
            if self.quote:
                position = self._inside_quote(line, position)
            elif not self._started:
                position = self._blank(line, position)
                if position < len(line) and line[position] in "\\.":
                    yield CommandLine(line[position:].strip(), self._line)
                    position = len(line)
                elif position < len(line) and not self.quote:
                    self._started = True
                    self._start = (self._line, position + 1)
                    begin = position
            else:
                found = _NEXT.search(line, position)
                position = found.end() if found else len(line)
                token = found.group() if found else ""
                if token == ";":
                    self._parts.append(line[begin : position - 1])
                    yield self._statement()
                elif token == "--":
                    self.comment = not line.endswith("\n")
                    position = len(line)
                else:
                    self._open(token)
        if self._started:
            self._parts.append(line[begin:])
        self._line += 1

    def finish(self) -> Iterator[Item]:
        """End the input: yield the statement that lacks its semicolon, if there is one."""
        if self._started:
            yield self._statement()
        self.quote = ""
        self._comments = 0

    def take(self) -> str:
        """Give back the text under way and forget it."""
        text = "".join(self._parts)
        self._parts, self._started, self.quote, self._comments = [], False, "", 0
        return text

    def _statement(self) -> Statement:
        text = "".join(self._parts).rstrip()
        self._parts, self._started = [], False
        return Statement(text, *self._start)

    def _blank(self, line: str, position: int) -> int:
        """Skip what may stand between statements; may open a comment."""
        while True:
            match = _BLANK.match(line, position)
            position = match.end() if match else position
            if line.startswith(";", position):
                position += 1
            elif line.startswith("--", position):
                return len(line)
            elif line.startswith("/*", position):
                self._open("/*")
                return position + 2
            else:
                return position

    def _open(self, token: str) -> None:
        if token in ("'", '"') or token.startswith("$"):
            self.quote = token
        elif token in ("e'", "E'"):
            self.quote = "E'"
        elif token == "/*":
            self.quote, self._comments = "*/", 1

    def _inside_quote(self, line: str, position: int) -> int:
        """Return where the quote ends in `line`, its length where it does not."""
        if self.quote == "*/":
            for edge in _COMMENT_EDGE.finditer(line, position):
                self._comments += 1 if edge.group() == "/*" else -1
                if self._comments == 0:
                    self.quote = ""
                    return edge.end()
            return len(line)
        if self.quote == "E'":
            match = _ESCAPED_STRING_END.match(line, position)
            end = match.end() if match else -1
        else:
            end = line.find(self.quote, position)
            end += len(self.quote) if end >= 0 else 0
        if end < 0:
            return len(line)
        self.quote = ""
        return end


def split_lines(text: str) -> list[str]:
    r"""Return the lines of `text` with their breaks; only \n breaks a line, as in DuckDB."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def split(lines: Iterable[str]) -> Iterator[Item]:
    """Yield all statements and commands of the input, as soon as each is complete."""
    splitter = Splitter()
    for line in lines:
        yield from splitter.feed(line)
    yield from splitter.finish()


def is_complete(text: str) -> bool:
    """Tell whether `text` can be run as it stands: commands, or statements that are ended."""
    splitter = Splitter()
    item: Item | None = None
    for line in split_lines(text):
        item = None
        for item in splitter.feed(line):  # noqa: B007 - the last one counts
            pass
    return splitter.idle or isinstance(item, CommandLine)
