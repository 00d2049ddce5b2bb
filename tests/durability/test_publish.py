"""DuckDB alone acknowledges a COMMIT: whatever happens right after it, the index is not wrong."""

import dis
import functools
import linecache
import sys
from pathlib import Path

import pytest

import hybridq
from hybridq.exec import transaction
from hybridq.instance import Instance
from tests.durability.cases import INSERT, check, count, create, row, vector
from tests.equal import index_equals_table

FILES = {
    str(Path(transaction.__file__).parents[1] / name)
    for name in (
        *("exec/transaction.py", "exec/boundaries.py", "exec/alone.py", "exec/by_key.py"),
        *("exec/single.py", "index/locks.py", "instance.py"),
    )
}
WRITES = {
    "insert": ("INSERT INTO t VALUES (?, 3, 'ant', ?, 'n')", lambda i: [i, vector(i).tolist()]),
    "insert one": (INSERT, row),
    "delete": ("DELETE FROM t WHERE id = ? - 5000", lambda i: [i]),
    "delete by key": ("DELETE FROM t WHERE id = ?", lambda i: [i]),
    "update by key": ("UPDATE t SET g = ?, v = ? WHERE id = 7", lambda i: [i, vector(i).tolist()]),
    "beside": ("UPDATE t SET note = ?::TEXT WHERE id = 7", lambda i: [i]),
    "beside many": ("UPDATE t SET note = ?::TEXT WHERE id < 7", lambda i: [i]),
    "key": ("UPDATE t SET id = ? WHERE id = (SELECT max(id) FROM t)", lambda i: [i]),
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "album.duckdb"
    with hybridq.connect(file) as con:
        create(con, 60, nlist=2)
    return file


@functools.cache
def _guarded(code):
    """Which instructions of a function have a handler, by their offsets."""
    return {at for e in dis.Bytecode(code).exception_entries for at in range(e.start, e.end, 2)}


def _may_fail(frame):
    """Tell whether an error can come at this line.

    CPython calls a C lock's exit at once when a `with` is left, and has `try:` in a `with` guarded
    by neither; but nothing is run there.
    """
    code, at = frame.f_code, frame.f_lasti
    text = linecache.getline(code.co_filename, frame.f_lineno).strip()
    if text == "try:":
        return at in _guarded(code) or at - 2 not in _guarded(code)
    return not text.startswith("with ")


def interrupted(work, error, at):
    """Run `work`, raising `error` at the at-th line of what begins, commits and publishes."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and _may_fail(frame):
            seen += 1
            if seen == at:
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except error:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize(("error", "explicit"), [(KeyboardInterrupt, False), (MemoryError, True)])
@pytest.mark.parametrize("write", WRITES)
def test_an_error_at_one_line_of_nine(path, write, error, explicit):
    fail_at_lines(path, write, error, explicit, 1 + list(WRITES).index(write), 9)


@pytest.mark.slow
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_error_at_any_line(path, write, error, explicit):
    fail_at_lines(path, write, error, explicit, 1, 1)


def fail_at_lines(path, write, error, explicit, first, step):
    text, given = WRITES[write]
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        for at in (0, *range(first, 2000, step)):  # at first it becomes known
            number = 5000 + at
            if write == "delete by key":
                con.execute(INSERT, row(number))

            def work(number=number):
                if explicit:
                    con.begin()
                con.execute(text, given(number))
                if explicit:
                    con.commit()

            hit = interrupted(work, error, at)
            if con.in_transaction:
                con.rollback()
            # The table is free, the index is right, and both connections see the same.
            other.execute("UPDATE t SET g = 1 WHERE id = 1")
            index_equals_table(other)
            found = other.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 500", [vector(1)])
            assert len(found.fetchall()) == count(con)
            if not hit and at:
                break
        assert at > 20
        check(con)
        check(other)
    with hybridq.connect(path) as con:
        assert con.notices == []
        index_equals_table(con)


def test_stale_is_exact_until_replayed(path, monkeypatch):
    """Where even the comparison fails, DuckDB answers; a later query replays and searches again."""

    def fails(*_):
        raise MemoryError

    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        with monkeypatch.context() as patch:
            patch.setattr(Instance, "publish", fails)
            with pytest.raises(MemoryError):
                con.execute(INSERT, row(5000))
            assert not con.in_transaction
            patch.setattr(transaction.maintain, "difference", fails)
            check(con, index=False)
            other.begin()
            check(other, index=False)
            with pytest.raises(hybridq.OperationalError, match=r"stale.*\n.*REINDEX"):
                other.execute("DELETE FROM t WHERE id = 3")
            other.rollback()
        check(con)
        check(other)
        index_equals_table(con)


def test_an_older_transaction_meets_a_commit_that_was_not_published(path, monkeypatch):
    """First committer wins, even if its change had to be found afterwards."""

    def fails(*_):
        raise MemoryError

    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        other.begin()
        with monkeypatch.context() as patch:
            patch.setattr(Instance, "publish", fails)
            with pytest.raises(MemoryError):
                con.execute("UPDATE t SET v = NULL WHERE id = 3")
        with pytest.raises(hybridq.OperationalError, match="serialization failure"):
            other.execute("UPDATE t SET g = 1 WHERE id = 3")
        other.rollback()
        check(other)
        index_equals_table(other)
