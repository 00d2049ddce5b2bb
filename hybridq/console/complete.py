"""Completion: names from the catalog where SQL expects them, commands, settings and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from hybridq.console.catalog import Catalog, Names
from hybridq.console.commands import REGISTRY
from hybridq.console.splitter import Splitter, split_lines

_WORD = re.compile(r'(?:"[^"]*|[^\W\d]\w*)$')
_BEFORE = re.compile(r"([\w.]+|[(),.])\s*$")
# A table and perhaps its alias, which the word after a table is unless it goes on with the clause.
_MENTIONED = re.compile(
    r"""\b(?:from|join|into|update|table|on|,)\s+([\w."]+)(?:\s+(?:as\s+)?
    (?!(?:join|inner|left|right|full|cross|natural|asof|semi|anti|positional|lateral|on|using|where
    |group|order|having|qualify|window|limit|offset|union|except|intersect|set|values|select)\b)
    (\w+))?""",
    re.IGNORECASE | re.VERBOSE,
)
_RELATION_WORDS = {
    "from",
    "join",
    "into",
    "update",
    "table",
    "describe",
    "view",
    "analyze",
    "truncate",
}
_MAKING_WORDS = {"create", "drop", "alter"}
_MADE = ("table", "index", "extension", "view", "schema", "or replace", "macro", "sequence", "type")
_SETTING_WORDS = {"set", "reset", "show"}
_COMMON = ("select", "from", "where", "order", "by", "limit", "insert", "into", "create", "table")


class SqlCompleter(Completer):
    """Completes what stands before the cursor; asks for the catalog only when it has to."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield completions in the order of how likely they are meant."""
        text = document.text_before_cursor
        line = document.current_line_before_cursor
        splitter = Splitter()
        for part in split_lines(text):
            for _ in splitter.feed(part):
                pass
        if line.lstrip()[:1] in ("\\", ".") and not splitter.quote:
            yield from self._command(line.lstrip(), event)
        elif splitter.quote in ("'", "E'"):
            yield from self._files(line[line.rfind("'") + 1 :], event)
        elif splitter.comment:
            return
        elif splitter.quote in ("", '"'):
            yield from self._sql(splitter.take(), document.text_after_cursor)

    def _command(self, line: str, event: CompleteEvent) -> Iterator[Completion]:
        name, space, rest = line.partition(" ")
        if not space:
            for known in sorted(REGISTRY):
                if known.startswith(name):
                    entry = REGISTRY[known]
                    yield Completion(known, -len(name), display_meta=entry.summary)
            return
        entry_or_none = REGISTRY.get(name)
        if entry_or_none is None:
            return
        word = rest.rpartition(" ")[2]
        if entry_or_none.files:
            yield from self._files(word, event)
        choices = re.findall(r"[a-z]+", entry_or_none.usage)
        if "TABLE" in entry_or_none.usage:
            choices = self._catalog.names().tables
        yield from _matching(choices, word, len(word))

    def _files(self, word: str, event: CompleteEvent) -> Iterable[Completion]:
        return self._paths.get_completions(Document(word, len(word)), event)

    def _sql(self, before: str, after: str) -> Iterator[Completion]:
        found = _WORD.search(before)
        word = found.group() if found else ""
        head = before[: len(before) - len(word)]
        bare = word.removeprefix('"')
        names = self._catalog.names()
        if head.endswith("."):
            yield from self._after_dot(head[:-1], bare, len(word), names, before + " " + after)
            return
        last = _BEFORE.search(head)
        last_word = last.group(1).lower() if last else ""
        if last_word in _SETTING_WORDS:
            yield from _matching(
                [*names.settings, "indexes", "settings", "tables"], bare, len(word)
            )
            return
        if last_word in _RELATION_WORDS or _in_from_list(head):
            yield from _matching([*names.tables, *names.schemas], bare, len(word), "table")
            if bare:
                yield from _matching(names.table_functions, bare, len(word), "function")
            return
        if last_word in _MAKING_WORDS:
            yield from _matching(_MADE, bare, len(word))
            return
        if not word and not last_word:
            yield from _matching(_COMMON, "", 0)
            return
        columns = self._columns(names, before + " " + after)
        yield from _matching(columns, bare, len(word), "column")
        if not bare:
            return
        yield from _matching(names.functions, bare, len(word), "function")
        yield from _matching(names.tables, bare, len(word), "table")
        upper = bare.isupper()
        keywords = [k.upper() if upper else k for k in names.keywords]
        yield from _matching(keywords, bare, len(word))

    @staticmethod
    def _columns(names: Names, statement: str) -> list[str]:
        """Return the columns of the tables a statement mentions, or of all tables."""
        found = [names.columns_of(m.group(1)) for m in _MENTIONED.finditer(statement)]
        mentioned = [column for columns in found for column in columns]
        return mentioned or [column for columns in names.columns.values() for column in columns]

    @staticmethod
    def _after_dot(
        head: str, word: str, length: int, names: Names, statement: str
    ) -> Iterator[Completion]:
        owner = re.search(r'[\w"]+$', head)
        prefix = owner.group().strip('"').lower() if owner else ""
        aliases = {
            m.group(2).lower(): m.group(1) for m in _MENTIONED.finditer(statement) if m.group(2)
        }
        columns = names.columns_of(aliases.get(prefix, prefix))
        yield from _matching(columns, word, length, "column")
        yield from _matching(names.members.get(prefix, ()), word, length)


def _in_from_list(head: str) -> bool:
    return re.search(r"\bfrom\s+[\w\s.,\"]*,\s*$", head, re.I) is not None


def _matching(
    candidates: Iterable[str], word: str, length: int, meta: str = ""
) -> Iterator[Completion]:
    low = word.lower()
    for candidate in dict.fromkeys(candidates):
        if candidate.lower().removeprefix('"').startswith(low):
            yield Completion(candidate, -length, display_meta=meta)
