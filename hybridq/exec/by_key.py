"""UPDATE and DELETE of the row with a key: one statement changes it and logs the key.

    DELETE FROM t WHERE id = ?
    ->  WITH l AS MATERIALIZED (INSERT INTO hybridq.changes_i VALUES (?, ?))
        DELETE FROM t WHERE id = ?

The index knows whether there is such a row, and of it what is not assigned; what is assigned must
be certain (see `certain`). So nothing is read back, and the statement is its own transaction, as in
`single`. RETURNING would make DuckDB write all of an updated row anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from hybridq.arrow import pa
from hybridq.errors import Uncertain
from hybridq.exec import given as parameters
from hybridq.exec import transaction as tx
from hybridq.exec.alone import Ready, run_alone
from hybridq.exec.host import Host
from hybridq.exec.key_plan import Assigned, Log, Plan, plan_of
from hybridq.exec.patches import is_plain
from hybridq.exec.result import Result
from hybridq.exec.transaction import Transaction
from hybridq.index.capture import Captured, FewRows, OneByOne
from hybridq.index.delta import Change
from hybridq.index.patch import OneKey, place_of
from hybridq.index.state import IndexState
from hybridq.instance import Prepared
from hybridq.nodes import Write
from hybridq.storage import manifest


def write_by_key(session: Host, write: Write, given: Any) -> Result | None:
    """Run an UPDATE or DELETE if it is one of these, else return None with nothing done."""
    statement = write.by_key
    if statement is None or write.has_returning or write.rewritten:
        return None
    if not session.instance.indexes or not session.at_home:
        return None
    plan = session.planned(write, lambda: plan_of(session, write, statement))
    if plan is None or not parameters.fits(plan.known, given):
        return None
    if not plan.binary and not session.standard_order:
        return None  # a default collation may find other keys
    try:
        keys = [target.key_given(given) for target in plan.targets]
        if session.transaction is not None:
            return _inside(session, session.transaction, plan, keys, given)
        return run_alone(
            session, plan.states, plan.epoch, lambda: _ready(session, plan, keys, given)
        )
    except Uncertain:
        return None
    except duckdb.Error as error:
        own = session.failed(error)
        if own.position is not None:
            own.position = own.position[0] - 1, own.position[1]
        raise own from error


def _ready(session: Host, plan: Plan, keys: Sequence[OneKey], given: Any) -> Ready:
    """Find the row in each index, and what that will be: a change, if there is such a row."""
    names = [manifest.new_transaction() for _ in keys]
    computed = plan.compute(session, given, keys[0]) if plan.computed else {}
    changes: list[Prepared] = []
    for target, key, name in zip(plan.targets, keys, names, strict=True):
        place = place_of(target.state.snapshot, key)
        if (computed is None) != (place is None) and plan.computed:
            raise Uncertain
        if place is None:
            continue
        change = Change(key.texts, None, codes=key.codes)
        if not plan.deletes:
            change = _changed(key, target.assigned(given, computed).row(*place))
        changes.append(session.instance.folded(target.state, change, name, 1))
    if len(changes) not in (0, len(keys)):
        raise Uncertain
    if changes:
        statement = plan.statement(session, Log.KEY)
        given = plan.given_with(given, names, keys)
        return Ready(statement, given, changes, beside=plan.beside)
    statement = plan.statement(session, Log.NOTHING)
    return Ready(statement, given, (), count=0 if keys else None, beside=plan.beside)


def _changed(key: OneKey, row: OneByOne | FewRows) -> Change:
    if isinstance(row, OneByOne):
        return Change(key.texts, None, row=row.rows[0], codes=key.codes)
    return Change(key.texts, row.part(), codes=key.codes)


def _inside(
    session: Host, transaction: Transaction, plan: Plan, keys: Sequence[OneKey], given: Any
) -> Result | None:
    """Run it in the open transaction, which logs and publishes nothing of it again."""
    if any(not transaction.knows(state) for state in plan.states):
        return None
    for state in plan.states:
        transaction.begin_write(state, session)
    with session.instance.lock:  # a rebuild that began before we took the index ends first
        if session.instance.epoch != plan.epoch:
            return None
    after = [
        _after(session, transaction, target.state, key, target.assigned(given, None), plan)
        for target, key in zip(plan.targets, keys, strict=True)
    ]
    there = {each.there for each in after}
    log = Log.IF_THERE
    if len(there) < 2 and None not in there:
        log = Log.KEY if True in there else Log.NOTHING
    transaction.wrote = True
    names = [transaction.log_name(target.state, 0) for target in plan.targets]
    statement = plan.statement(session, log)
    if log is not Log.NOTHING:
        given = plan.given_with(given, names, keys)
    count = session.duck.execute(statement, given).fetchall()[0][0]
    for state in plan.beside if count else ():
        transaction.record_beside(state)
    for target, key, each in zip(plan.targets, keys, after, strict=True):
        if each.there is not None and count != each.there:
            transaction.record_opaque(target.state)
        elif count:
            transaction.log_name(target.state, count)
            transaction.record(target.state, Captured(key.arrays(), each.row, logged=True))
    return Result(None, [], rowcount=count)


@dataclass(frozen=True, slots=True)
class _After:
    """Whether a row is there, None if that is not known; and as what, None if the table tells."""

    there: bool | None
    row: pa.Table | OneByOne | FewRows | None


def _after(
    session: Host,
    transaction: Transaction,
    state: IndexState,
    key: OneKey,
    assigned: Assigned,
    plan: Plan,
) -> _After:
    gone = pa.table({}) if plan.deletes else None
    snapshot = tx.seen(transaction, state, session.instance)
    if snapshot is None:
        return _After(None, gone)
    place = place_of(snapshot, key)
    if place is None or plan.deletes or plan.computed or not is_plain(state.spec):
        return _After(place is not None, gone)
    return _After(True, assigned.row(*place))
