"""One index while its database is open: its published snapshot and what is not folded in yet."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from hybridq.errors import OperationalError
from hybridq.index.bitmaps import Bitmaps
from hybridq.index.ivf import IndexSpec, Snapshot


@dataclass(slots=True)
class IndexState:
    """One index of an instance. `version` counts commits that changed its table.

    `writer` is the transaction that is writing its table. `stale` is set while a change of the
    table may be committed and not published: the index must not be used.
    """

    spec: IndexSpec
    snapshot: Snapshot
    segment: str
    version: int = 0
    pending: list[list[pa.Array]] = field(default_factory=list)
    writer: object | None = None
    stale: bool = False
    bitmaps: Bitmaps = field(default_factory=Bitmaps)

    @property
    def name(self) -> str:
        """The index's name."""
        return self.spec.name

    def refuse_busy(self) -> None:
        """Raise if a transaction is writing the index's table."""
        if self.writer is not None:
            raise OperationalError(
                f'index "{self.name}" cannot be rebuilt: a transaction is writing '
                f"{self.spec.table}",
                hint="commit or roll back first",
            )
