"""One index while its database is open: its published snapshot, and who works on it."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from hybridq.errors import OperationalError
from hybridq.index.bitmaps import Bitmaps
from hybridq.index.ivf import IndexSpec, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class LastMerge:
    """The merge that ended last: when (seconds since 1970), how long it took, what it did."""

    ended: float
    seconds: float
    rows: int
    what: str


class Publishing(Protocol):
    """Who publishes a change; `ended` when it is done, with or without success."""

    ended: bool


@dataclass(slots=True, eq=False)
class IndexState:
    """One index of an instance. `version` counts commits that changed its table.

    `writer` is the transaction that is writing its table. `publishing` is set from before a COMMIT
    that changes the table until the change is published.
    `published` are the transactions in the index's change log that the snapshot contains, with
    `logged_rows` keys. `merging` is held by who replaces parts: a merge, a rebuild; `busy` are the
    parts it works on. With `damage`, which is found when rows are read, the index is not used until
    it is rebuilt. `measured` is the recall measured last, `fallbacks` how many queries of its table
    DuckDB answered.
    """

    spec: IndexSpec
    snapshot: Snapshot
    version: int = 0
    published: list[uuid.UUID] = field(default_factory=list)
    logged_rows: int = 0
    writer: object | None = None
    publishing: Publishing | None = None
    bitmaps: Bitmaps = field(default_factory=Bitmaps)
    merging: threading.Lock = field(default_factory=threading.Lock)
    busy: frozenset[int] = frozenset()
    last_merge: LastMerge | None = None
    retry_rows: int = 0
    looked_at: tuple[int, int] = (0, 0)
    damage: str | None = None
    measured: float | None = None
    fallbacks: int = 0

    @property
    def name(self) -> str:
        """The index's name."""
        return self.spec.name

    @property
    def stale(self) -> bool:
        """Whether a committed change may be missing for good: the index must not be used."""
        publishing = self.publishing
        return publishing is not None and publishing.ended

    def is_at(self, version: int) -> bool:
        """Tell whether what DuckDB said just now is of the published rows of that version."""
        return self.publishing is None and self.version == version  # in this order

    def refuse_busy(self, what: str) -> None:
        """Raise if a transaction is writing the index's table, so that it cannot be `what`."""
        if self.writer is not None:
            raise OperationalError(
                f'index "{self.name}" cannot be {what}: a transaction is writing {self.spec.table}',
                hint="commit or roll back first",
            )
