"""Who may write which table: one transaction at a time, from its first write to its end.

A wait is bounded by the caller's timeout and never in vain: one that could not end, since it is for
the transaction itself by way of others or for one that only this thread could end, raises at once.
Nobody waits here while holding another lock of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from hybridq.errors import OperationalError

Table: TypeAlias = tuple[str, str]
"""Schema and name, in lower case."""

_SLICE_SECONDS = 0.05
"""How long a wait goes on before it looks for an interrupt."""


class Locker(Protocol):
    """A transaction; `thread` is the one that ran its last statement."""

    thread: int


class TableLocks:
    """The tables that transactions of one database hold."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._holders: dict[Table, Locker] = {}
        self._waiting: dict[int, tuple[Locker, Table]] = {}

    def acquire(
        self,
        table: Table,
        locker: Locker,
        timeout_seconds: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Take `table`; `check` raises to end the wait.

        Raises OperationalError after `timeout_seconds`, or at once for a deadlock.
        """
        with self._changed:
            if self._free(table, locker):
                return
            self._refuse_deadlock(table, locker)
            end = time.monotonic() + timeout_seconds
            self._waiting[id(locker)] = locker, table
            try:
                while not self._free(table, locker):
                    left = end - time.monotonic()
                    if left <= 0:
                        raise OperationalError(
                            f"table {_shown(table)} is being written by another connection's "
                            f"transaction (waited for {timeout_seconds:g} s)",
                            hint="retry when it has ended, or raise SET lock_timeout",
                        )
                    self._changed.wait(min(left, _SLICE_SECONDS))
                    check()
            finally:
                del self._waiting[id(locker)]

    def release(self, locker: Locker) -> None:
        """Give back all that a transaction holds."""
        with self._changed:
            for table in [t for t, holder in self._holders.items() if holder is locker]:
                del self._holders[table]
            self._changed.notify_all()

    def _free(self, table: Table, locker: Locker) -> bool:
        return self._holders.setdefault(table, locker) is locker

    def _refuse_deadlock(self, table: Table, locker: Locker) -> None:
        """Follow who waits for whom; only a wait that begins can close a circle."""
        path = [table]
        while True:
            holder = self._holders.get(path[-1])
            if holder is None:
                return
            if holder is locker:
                shown = ", which waits for table ".join(_shown(t) for t in path)
                raise OperationalError(
                    f"deadlock: this transaction waits for the writer of table {shown}, "
                    "which this transaction is writing",
                    hint="roll back and retry; write tables in the same order everywhere",
                )
            waits = self._waiting.get(id(holder))
            if waits is None:
                if holder.thread == threading.get_ident():
                    raise OperationalError(
                        f"table {_shown(path[-1])} is being written by another connection's "
                        "transaction, which this same thread would have to end",
                        hint="commit or roll it back first",
                    )
                return
            path.append(waits[1])


def _shown(table: Table) -> str:
    schema, name = table
    return name if schema == "main" else f"{schema}.{name}"
