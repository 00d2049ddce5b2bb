"""What the meaning of a text may depend on beside the text: macros and settings of a session."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

from hybridq.nodes import Passthrough, ResetSetting, SetSetting, Statement
from hybridq.settings import is_of_search, is_setting

_TOKENS = itertools.count(1)
_QUERIES = ("SELECT", "FROM", "WITH", "VALUES", "TABLE", "DESCRIBE", "SUMMARIZE", "(")
_KEPT = 256


class Epoch(Protocol):
    """The database: its epoch changes with its schema."""

    epoch: int


class Environment:
    """Tells whether an answer of DuckDB's still holds, and keeps those that do.

    Sessions in which nothing was set yet share one environment.
    """

    def __init__(self, database: Epoch) -> None:
        self._database = database
        self._token = 0
        self._known: dict[Any, Any] = {}

    @property
    def token(self) -> tuple[int, int]:
        """Differs where macros or settings may differ."""
        return self._database.epoch, self._token

    def changed(self) -> None:
        """Believe nothing of what was known."""
        self._token = next(_TOKENS)
        self._known.clear()

    def note(self, statement: Statement) -> bool:
        """Take notice of a statement before it runs: what is no query may set something.

        Returns whether it may set something for all sessions; `database_changed` is due then.
        """
        if isinstance(statement, SetSetting | ResetSetting):
            if is_of_search(statement.name):
                return False
            self.changed()
            return not is_setting(statement.name)
        if isinstance(statement, Passthrough):
            text = statement.text.lstrip().upper()
            if not text.startswith(_QUERIES):
                self.changed()
                return text.startswith("PRAGMA") or "GLOBAL" in text
        return False

    def database_changed(self) -> None:
        """Let every session look again at what settings may have changed."""
        self._database.epoch += 1

    def get(self, key: Any, default: Any = None) -> Any:
        """Return what is known under `key`."""
        return self._known.get((self.token, key), default)

    def keep(self, key: Any, value: Any) -> None:
        """Remember a value for this environment."""
        self._known[self.token, key] = value
        if len(self._known) > _KEPT:
            self._known.pop(next(iter(self._known)))
