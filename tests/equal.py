"""Do the indexes of a database hold what its tables hold?"""

from __future__ import annotations

import hybridq
from hybridq.index import maintain


def differences(con: hybridq.Connection) -> dict[str, list[list[object]]]:
    """Return, by index, the keys of rows in which it differs from the committed table."""
    instance = con.check_open().instance
    found: dict[str, list[list[object]]] = {}
    with instance.lock:
        for state in instance.indexes.values():
            with instance.duck.cursor() as cursor:
                keys = maintain.difference(cursor, instance.snapshot(state))
            if keys is not None:
                found[state.name] = [k.to_pylist() for k in keys]
    return found


def index_equals_table(con: hybridq.Connection) -> None:
    """Fail unless every index has the rows of its table: keys, attributes and vectors."""
    assert differences(con) == {}
