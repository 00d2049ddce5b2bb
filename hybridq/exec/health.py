"""`hybridq_health` and `hybridq_merge`: how the indexes are, and a merge that does not wait.

    SELECT * FROM hybridq_health()
    SELECT * FROM hybridq_merge('index_name')

Table macros over functions of ours, as `hybridq_recall` is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from hybridq.arrow import pa
from hybridq.errors import OperationalError, ProgrammingError
from hybridq.functions import Functions
from hybridq.index import upkeep
from hybridq.index.state import IndexState
from hybridq.instance import Instance
from hybridq.nodes import quote

_HEALTH = "__hybridq_health"
_MERGE = "__hybridq_merge"

_COLUMNS = {
    "index": "VARCHAR",
    "status": "VARCHAR",
    "rows": "BIGINT",
    "segment_rows": "BIGINT[]",
    "delta_rows": "BIGINT[]",
    "deleted_rows": "BIGINT",
    "logged_keys": "BIGINT",
    "size_bytes": "BIGINT",
    "nlist": "BIGINT",
    "trained_rows": "BIGINT",
    "due": "VARCHAR",
    "last_merge": "TIMESTAMP",
    "last_merge_seconds": "DOUBLE",
    "last_merge_reason": "VARCHAR",
    "recall": "DOUBLE",
    "fallbacks": "BIGINT",
}
_SQL = "STRUCT(" + ", ".join(f"{quote(n)} {t}" for n, t in _COLUMNS.items()) + ")"


def _kind() -> pa.DataType:
    of = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "BIGINT[]": pa.list_(pa.int64()),
        "TIMESTAMP": pa.timestamp("us"),
        "DOUBLE": pa.float64(),
    }
    return pa.struct([(name, of[kind]) for name, kind in _COLUMNS.items()])


def register(functions: Functions, instance: Instance) -> None:
    """Add the functions and their table macros to a database, once."""
    if functions.knows(_HEALTH):
        return

    def health(rows: pa.Array) -> pa.Array:
        found = [
            *(_health(state, instance) for state in instance.states()),
            *(_unusable(spec.name) for spec in [*instance.unusable.values()]),
        ]
        found.sort(key=lambda row: row["index"])
        return pa.array([found] * len(rows), pa.list_(_kind()))

    def merge(names: pa.Array) -> pa.Array:
        return pa.array([_merge(name, instance) for name in names.to_pylist()], _kind())

    _add(functions, _HEALTH, health, ("BIGINT",), _SQL + "[]")
    _add(functions, _MERGE, merge, ("VARCHAR",), _SQL)
    columns = ", ".join(f"r.{quote(n)} AS {quote(n)}" for n in _COLUMNS)
    # MATERIALIZED, or a function would run once for each column.
    functions.macro(
        "hybridq_health",
        (),
        f"WITH m AS MATERIALIZED (SELECT unnest({_HEALTH}(1)) AS r) SELECT {columns} FROM m",
        table=True,
    )
    functions.macro(
        "hybridq_merge",
        ('"index"',),
        f'WITH m AS MATERIALIZED (SELECT {_MERGE}(CAST("index" AS VARCHAR)) AS r) '
        f"SELECT {columns} FROM m",
        table=True,
    )


def _add(
    functions: Functions,
    name: str,
    function: Callable[..., pa.Array],
    parameters: Sequence[str],
    returns: str,
) -> None:
    functions.scalar(name, function, parameters=tuple(parameters), returns=returns, volatile=True)


def _merge(name: str | None, instance: Instance) -> dict[str, Any]:
    if name is None:
        raise ProgrammingError("hybridq_merge takes the name of a vector index, not NULL")
    state = instance.index_named(name)
    if state is None:
        known = ", ".join(sorted(s.name for s in instance.states())) or "none"
        raise ProgrammingError(
            f'vector index "{name}" does not exist', hint=f"vector indexes: {known}"
        )
    if instance.read_only:
        raise OperationalError("the database is open read-only", hint="open it for writing")
    instance.merge(state)
    return _health(instance.index_named(name) or state, instance)


def _health(state: IndexState, instance: Instance) -> dict[str, Any]:
    snapshot, last = state.snapshot, state.last_merge
    stored, young = upkeep.split(snapshot)
    job = upkeep.next_job(
        snapshot, logged_rows=state.logged_rows, memory_bytes=instance.merger.memory_bytes
    )
    ended = dt.datetime.fromtimestamp(last.ended, dt.UTC).replace(tzinfo=None) if last else None
    return {
        "index": state.name,
        "status": _status(state),
        "rows": snapshot.live_rows,
        "segment_rows": [upkeep.live(p) for p in stored],
        "delta_rows": [upkeep.live(p) for p in young],
        "deleted_rows": sum(p.dead for p in snapshot.parts),
        "logged_keys": state.logged_rows,
        "size_bytes": snapshot.size_bytes,
        "nlist": snapshot.generation.nlist,
        "trained_rows": snapshot.generation.trained.rows,
        "due": job.why if job is not None else None,
        "last_merge": ended,
        "last_merge_seconds": last.seconds if last else None,
        "last_merge_reason": last.what if last else None,
        "recall": state.measured,
        "fallbacks": state.fallbacks,
    }


def _status(state: IndexState) -> str:
    if state.damage is not None:
        return "damaged"
    if state.stale:
        return "stale"
    if state.busy:
        return "merging"
    if any(p.unverified is not None for p in state.snapshot.parts):
        return "verifying"
    return "ok"


def _unusable(name: str) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(_COLUMNS)
    return {**empty, "index": name, "status": "unusable"}
