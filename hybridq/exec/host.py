"""What statements need of the session that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import duckdb

from hybridq.exec.bind import BoundTopK
from hybridq.exec.executor import Run
from hybridq.exec.result import Field, Result, Row
from hybridq.exec.transaction import Transaction
from hybridq.instance import Instance
from hybridq.nodes import Statement, TableName, TopK
from hybridq.plan.physical import Decision
from hybridq.progress import Progress
from hybridq.settings import Settings
from hybridq.storage.manifest import TableInfo

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any] | None


class Host(Protocol):
    """The session, as seen from below."""

    instance: Instance
    duck: duckdb.DuckDBPyConnection
    settings: Settings
    progress: Progress
    transaction: Transaction | None

    def run_statement(self, statement: Statement, parameters: Parameters) -> Result:
        """Run one statement."""

    def run_verbatim(self, text: str, parameters: Parameters = None) -> Result:
        """Run text on DuckDB as it is."""

    def plan(self, topk: TopK, parameters: Parameters) -> tuple[BoundTopK | None, Decision]:
        """Bind and plan a TopK."""

    def answer(
        self, bound: BoundTopK, decision: Decision, run: Run
    ) -> tuple[list[Field], list[Row]] | None:
        """Run a plan on the index."""

    def describe(self, table: TableName) -> TableInfo | None:
        """Return what a table name means."""

    def session_changed(self) -> None:
        """Look again at what SET can change."""

    def in_transaction(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in the open transaction, or in one of its own."""
