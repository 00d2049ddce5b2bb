"""What statements need of the session that runs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import duckdb

from hybridq.errors import Error, ProgrammingError
from hybridq.exec.environment import Environment
from hybridq.exec.origins import Origins
from hybridq.exec.prepare import Prepared, Unbound
from hybridq.exec.result import Field, Result, Row
from hybridq.exec.transaction import Transaction, Writes
from hybridq.instance import Instance
from hybridq.nodes import Statement, TableName, TopK, Write, literal, quote
from hybridq.progress import Cancellable
from hybridq.settings import Settings, hinted
from hybridq.sql import lexical
from hybridq.storage.manifest import TableInfo

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
_P = TypeVar("_P")

_NAMES = tuple(f"hq{i}" for i in range(1, 65))
PLACES = {name: i for i, name in enumerate(_NAMES)}
"""Where among positional parameters the ones of these names stand."""


class Host(Protocol):
    """The session, as seen from below."""

    instance: Instance
    duck: duckdb.DuckDBPyConnection
    settings: Settings
    autocommit: bool
    transaction: Transaction | None
    environment: Environment
    once: set[str]
    origins: Origins

    @property
    def progress(self) -> Cancellable:
        """Where long statements tell how far they are."""

    @property
    def standard_order(self) -> bool:
        """Whether ORDER BY means ascending, NULLs last."""

    @property
    def at_home(self) -> bool:
        """Whether the database with our indexes is the current one."""

    @property
    def threads(self) -> int:
        """How many threads DuckDB uses."""

    def run_statement(self, statement: Statement, parameters: Parameters) -> Result:
        """Run one statement."""

    def query(self, text: str, parameters: Any) -> tuple[list[Field], list[Row]]:
        """Run a query of our own."""

    def query_arrow(self, text: str, parameters: Mapping[str, Any]) -> Any:
        """Run a query of our own and return an Arrow table."""

    def register_view(self, name: str, table: Any) -> None:
        """Make an Arrow table readable on the session's connection."""

    def run_verbatim(self, text: str, parameters: Parameters = None) -> Result:
        """Run text on DuckDB as it is."""

    def describe(self, table: TableName) -> TableInfo | None:
        """Return what a table name means."""

    def prepared(self, topk: TopK) -> Prepared | Unbound:
        """Return what of a TopK does not depend on values."""

    def planned(self, write: Write, plan: Callable[[], _P]) -> _P:
        """Return what `plan` makes of a write, remembered while names mean the same."""

    def run_duck(self, text: str, parameters: Any, *, read: bool, counts: bool = False) -> Result:
        """Run text on DuckDB with parameters as its client takes them."""

    def failed(self, error: Exception) -> Error:
        """Return the error to raise for one of DuckDB's, and remember it."""

    def has_triggers(self) -> bool:
        """Tell whether the database has triggers."""

    def free_connection(self) -> None:
        """Drain the result that DuckDB still holds."""

    def forget_names(self) -> None:
        """Look up again what names mean."""

    def schema_changed(self) -> None:
        """Forget what names meant."""

    def in_transaction(
        self, work: Callable[[Transaction], Result], writes: Writes = tuple
    ) -> Result:
        """Run `work` in the open transaction, or in one of its own that takes tables first."""


@contextlib.contextmanager
def home(session: Host) -> Iterator[None]:
    """Make the database with our indexes the current one, whatever USE chose."""
    if session.at_home:
        yield
        return
    path = session.duck.execute("SELECT current_setting('search_path')").fetchall()[0][0]
    schema = session.duck.execute("SELECT current_database(), current_schema()").fetchall()[0]
    session.duck.execute(f"USE {quote(session.instance.catalog)}")
    try:
        yield
    finally:
        if path:
            session.duck.execute(f"SET search_path = {literal(path)}")
        else:
            session.duck.execute(f"USE {quote(schema[0])}.{quote(schema[1])}")


def drop_view(session: Host, name: str) -> None:
    """Take a registered view of ours away.

    In a transaction that a statement's failure has aborted it goes with the rollback.
    """
    with contextlib.suppress(duckdb.TransactionException):
        session.duck.unregister(name)


def named_values(parameters: Parameters) -> Mapping[str, Any]:
    """Return parameter values by name; positional ones are hq1, hq2 and so on."""
    if parameters is None:
        return {}
    # The plain types first: asking an abstract one costs as much as all the rest.
    if not isinstance(parameters, list) and isinstance(parameters, dict | Mapping):
        return parameters
    if len(parameters) <= len(_NAMES):
        return dict(zip(_NAMES, parameters, strict=False))
    return {f"hq{i}": value for i, value in enumerate(parameters, 1)}


def shown_parameter(name: str) -> str:
    """Return a parameter's name as it was written."""
    return f"{name[2:]}" if name.startswith("hq") and name[2:].isdigit() else f":{name}"


def given_for(text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that `text` uses; ProgrammingError if one has no value."""
    names = lexical.used_parameters(text)
    for name in names:
        if name not in values:
            raise ProgrammingError(f"parameter {shown_parameter(name)} has no value")
    return {name: values[name] for name in names}


def settings_of(session: Host, topk: TopK) -> Settings:
    """Return the session's settings as the hints of one select have them."""
    return hinted(session.settings, topk.hints) if topk.hints else session.settings


def duck_parameters(parameters: Parameters, *, named: bool) -> Any:
    """Return parameters as DuckDB's client takes them."""
    if parameters is None:
        return None
    if named:
        return dict(named_values(parameters)) or None
    if isinstance(parameters, Mapping):
        return dict(parameters) or None
    return list(parameters) or None
