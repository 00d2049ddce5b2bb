"""The contract between hybridq and its plug-ins.

A plug-in is an entry point of the group `hybridq.udfs`: a function `register(registry)`.
`CREATE EXTENSION name` calls it; the built-in ones (`fastann`, `image`) are always loaded.
hybridq imports no plug-in by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

import pyarrow as pa

from hybridq.errors import OperationalError, ProgrammingError
from hybridq.progress import Progress

GROUP = "hybridq.udfs"
BUILT_IN = ("fastann", "image")

ArrowFunction = Callable[..., pa.Array]
"""Receives one pyarrow array per argument (of one length, NULLs included), returns another."""


class PipelineStore(Protocol):
    """Named pipelines and their fixed options, kept in the database file."""

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Return the options `name` was created with, or None if it was not created."""

    def put(self, name: str, options: Mapping[str, Any]) -> None:
        """Create the pipeline, or leave it as it is when it exists with the same options."""


class Context(Protocol):
    """What a function may ask of the database it runs in."""

    @property
    def pipelines(self) -> PipelineStore:
        """The pipelines of this database."""

    @property
    def progress(self) -> Progress:
        """Where to report rows done; `start` and `finish` are the engine's to call."""

    def setting(self, name: str) -> Any:
        """Return the value of a setting, e.g. `on_bad_image`."""


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

    def macro(self, name: str, parameters: Sequence[str], body: str) -> None:
        """Add the SQL macro `name` with the expression `body`; `schema.name` makes the schema."""


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
