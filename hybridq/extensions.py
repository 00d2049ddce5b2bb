"""The contract between hybridq and its plug-ins.

A plug-in is an entry point of the group `hybridq.udfs`: a function `register(registry)`.
`CREATE EXTENSION name` calls it; the built-in ones (`fastann`, `image`) are always loaded.
hybridq imports no plug-in by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from hybridq.arrow import pa
from hybridq.errors import OperationalError, ProgrammingError
from hybridq.progress import Progress

GROUP = "hybridq.udfs"
BUILT_IN = ("fastann", "image")

ArrowFunction = Callable[..., "pa.Array"]
"""Receives one pyarrow array per argument (of one length, NULLs included), returns another."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Something a plug-in keeps: options of JSON values, and bytes."""

    options: Mapping[str, Any]
    data: bytes = b""


class ObjectStore(Protocol):
    """What plug-ins keep in the database file, by kind ("pipeline", "model", …) and name."""

    def get(self, kind: str, name: str) -> StoredObject | None:
        """Return an object, None where there is none of that name."""

    def names(self, kind: str) -> list[str]:
        """Return the names there are of a kind, sorted."""

    def put(self, kind: str, name: str, options: Mapping[str, Any], data: bytes = b"") -> None:
        """Keep an object, in the place of one of that name; OperationalError if read-only."""

    def drop(self, kind: str, name: str) -> bool:
        """Forget an object; tell whether there was one."""


class Context(Protocol):
    """What a function may ask of the database it runs in."""

    @property
    def objects(self) -> ObjectStore:
        """What plug-ins keep in this database."""

    @property
    def progress(self) -> Progress:
        """Where to report rows done; `start` and `finish` are the engine's to call."""

    def setting(self, name: str) -> Any:
        """Return the value of a setting, e.g. `on_bad_input`."""

    def query(self, text: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a query, which sees what is committed, in batches.

        Raises ProgrammingError for a query that DuckDB refuses.
        """


class Registry(Protocol):
    """What a plug-in can add to a database."""

    @property
    def context(self) -> Context:
        """The database the plug-in is being loaded into."""

    def scalar(
        self,
        name: str,
        function: ArrowFunction,
        *,
        parameters: Sequence[str] | None,
        returns: str,
        volatile: bool = False,
        reads_images: bool = False,
    ) -> None:
        """Add an Arrow-vectorised scalar function.

        `parameters` are SQL types, None for any number of arguments of any type; `returns` is a SQL
        type. `reads_images` functions get their rows in batches when a statement feeds them from
        files. A raised `hybridq.errors.Error` reaches the user as it is.
        """

    def macro(
        self, name: str, parameters: Sequence[str], body: str, *, table: bool = False
    ) -> None:
        """Add the SQL macro `name` with the expression `body`, or the query if it is a `table`.

        `schema.name` makes the schema; a parameter may have a default: `k := 10`.
        """

    def view(self, name: str, body: str) -> None:
        """Add the view `schema.name` with the query `body`."""


Register = Callable[[Registry], None]


def installed() -> dict[str, EntryPoint]:
    """Return the installed plug-ins by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load(name: str) -> Register:
    """Return the register function of the plug-in `name`.

    Raises ProgrammingError for an unknown name, OperationalError for one that cannot be imported.
    """
    entry = installed().get(name)
    if entry is None:
        known = ", ".join(sorted(installed())) or "none"
        raise ProgrammingError(
            f'extension "{name}" is not installed', hint=f"installed extensions: {known}"
        )
    try:
        register: Register = entry.load()
    except ImportError as error:
        raise OperationalError(
            f'extension "{name}" cannot be loaded: {error}',
            hint="install what it needs, e.g. the [image] extra",
        ) from error
    return register
