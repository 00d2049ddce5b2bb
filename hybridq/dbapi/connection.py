"""Connections: PEP 249, autocommit by default as in DuckDB's client."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from os import PathLike
from types import TracebackType
from typing import Any

from hybridq import errors
from hybridq.dbapi.cursor import Cursor, Parameters
from hybridq.errors import InterfaceError, ProgrammingError
from hybridq.exec import forks
from hybridq.exec.result import Result
from hybridq.instance import open_instance
from hybridq.progress import Progress
from hybridq.session import Session


def connect(
    path: str | PathLike[str] = ":memory:",
    *,
    read_only: bool = False,
    autocommit: bool = True,
    progress: Progress | None = None,
) -> Connection:
    """Open a database file (made if it is not there), or one in memory.

    Parameters
    ----------
    path
        A DuckDB file. Its vector indexes live beside it, in `<path>.hybridq/`.
    read_only
        Open without writing; several processes may do so at once.
    autocommit
        True: every statement commits unless BEGIN was said. False: PEP 249's implicit transactions.
    progress
        Told how far long statements are (see hybridq.progress).
    """
    forks.refuse_inherited(str(path))
    instance = open_instance(str(path), read_only=read_only)
    try:
        session = Session(instance, autocommit=autocommit, progress=progress)
    except BaseException:
        instance.close()
        raise
    return Connection(session)


class Connection:
    """A session with a database. May be used by one thread at a time."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session
        self._lock = threading.RLock()
        # DuckDB complains at exit about functions of connections that were left open.
        self._finalizer = weakref.finalize(self, session.close)

    # -- PEP 249 --------------------------------------------------------------

    def cursor(self) -> Cursor:
        """Return a new cursor, in this connection's transaction."""
        self.check_open()
        return Cursor(self)

    def commit(self) -> None:
        """Commit the open transaction, if there is one."""
        with self._lock:
            self.check_open().commit()

    def rollback(self) -> None:
        """Roll the open transaction back, if there is one."""
        with self._lock:
            self.check_open().rollback()

    def close(self) -> None:
        """Roll back what is open and close; closing twice is an error, as PEP 249 has it."""
        if self._session is not None and self._session.process != os.getpid():
            # A child of fork lets go of it; the database stays the parent's.
            self._session = None
            self._finalizer.detach()
            return
        with self._lock:
            self.check_open()
            self._session = None
            self._finalizer()

    # -- beyond it ------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction; the snapshot is taken now."""
        with self._lock:
            self.check_open().begin()

    def execute(self, operation: str, parameters: Parameters = None) -> Cursor:
        """Run a statement on a new cursor and return it."""
        return Cursor(self).execute(operation, parameters)

    def executemany(self, operation: str, seq_of_parameters: Sequence[Parameters]) -> Cursor:
        """Run a statement for many sets of parameters on a new cursor and return it."""
        return self.cursor().executemany(operation, seq_of_parameters)

    def register(self, name: str, data: Any) -> None:
        """Make a pandas, polars or Arrow table, or a dict of columns, readable as table `name`."""
        with self._lock:
            session = self.check_open()
            if not name or name.lower().startswith("__hybridq"):
                raise ProgrammingError(f'"{name}" cannot be the name of a registered table')
            session.register(name, data)

    def unregister(self, name: str) -> None:
        """Take a registered table away."""
        with self._lock:
            self.check_open().unregister(name)

    def interrupt(self) -> None:
        """Cancel the statement that another thread is running on this connection."""
        self.check_open().interrupt()

    @property
    def autocommit(self) -> bool:
        """Whether statements outside BEGIN commit by themselves."""
        return self.check_open().autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        session = self.check_open()
        if session.transaction is not None:
            raise ProgrammingError(
                "autocommit cannot change inside a transaction", hint="commit or roll back first"
            )
        session.autocommit = value

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.check_open().transaction is not None

    @property
    def transaction_failed(self) -> bool:
        """Whether a statement of the open transaction failed, so that it can only roll back."""
        transaction = self.check_open().transaction
        return transaction is not None and transaction.failed is not None

    @property
    def notices(self) -> list[str]:
        """What the database wants known: indexes rebuilt, changes by other programs found."""
        return list(self.check_open().instance.notices)

    def __enter__(self) -> Connection:
        self.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit on success, roll back on an error, then close."""
        if self._session is None:
            return
        if self._session.process != os.getpid():
            self.close()
            return
        try:
            if kind is None:
                self.commit()
            else:
                self.rollback()
        finally:
            self.close()

    # -- for cursors ----------------------------------------------------------

    def check_open(self) -> Session:
        """Return the session; raises InterfaceError once the connection is closed."""
        if self._session is None:
            raise InterfaceError("the connection is closed", hint="hybridq.connect(…) again")
        forks.refuse_other(self._session.process)
        return self._session

    def run(self, text: str, parameters: Any) -> Result:
        """Run statements for a cursor."""
        with self._lock:
            return self.check_open().run(text, parameters)

    def run_many(self, text: str, rows: Sequence[Any]) -> Result:
        """Run one statement many times for a cursor."""
        with self._lock:
            return self.check_open().run_many(text, rows)

    def drop(self, result: Result) -> None:
        """Forget the rest of a cursor's result."""
        with self._lock:
            if self._session is not None:
                result.discard()

    def frame(self, result: Result, method: str) -> Any:
        """Return a result in columns for a cursor."""
        with self._lock:
            return self.check_open().frame(result, method)


__all__ = ["Connection", "connect"]
