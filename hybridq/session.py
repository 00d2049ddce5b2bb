"""The life of a statement.

    text ── again? the last answer's way                        exec/again.py
         ── parse_script (cached) ──> statements           sql/parse.py
      TopK       resolve ─> bind ─> decide ─> execute ─> assemble      exec/query.py
      Embedded   each TopK as above; DuckDB runs the rest              exec/query.py
      Write      RETURNING key, change log, one transaction            exec/dml.py, exec/write.py
      ours       CREATE INDEX, SET, EXPLAIN …                          exec/statements.py
      others     DuckDB, verbatim                                      exec/dml.py

A session owns one DuckDB connection and is used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, assert_never

import duckdb

from hybridq.errors import DamagedError, Error, OperationalError, ProgrammingError
from hybridq.exec import (
    boundaries,
    dml,
    embedded,
    explain,
    forks,
    health,
    query,
    recall,
    statements,
)
from hybridq.exec.again import Repeats
from hybridq.exec.deadline import Deadline
from hybridq.exec.environment import Environment
from hybridq.exec.host import Parameters, duck_parameters
from hybridq.exec.names import Names
from hybridq.exec.origins import Origins
from hybridq.exec.prepare import Prepared, Unbound
from hybridq.exec.result import Field, Pending, Result, Row, translate
from hybridq.exec.transaction import Transaction as Tx
from hybridq.exec.transaction import Writes
from hybridq.instance import Instance
from hybridq.nodes import (
    Analyze,
    CreateExtension,
    CreateIndex,
    DropIndex,
    Embedded,
    Explain,
    Passthrough,
    Reindex,
    ResetSetting,
    SetSetting,
    Show,
    Statement,
    TableName,
    TopK,
    Transaction,
    Write,
)
from hybridq.progress import Cancellable, NoProgress, Progress
from hybridq.settings import Settings
from hybridq.sql import parse as sql
from hybridq.storage.manifest import TableInfo


class Session:
    """One connection's state: settings, transaction, caches, and the DuckDB connection."""

    def __init__(
        self, instance: Instance, *, autocommit: bool = True, progress: Progress | None = None
    ) -> None:
        self.instance = instance
        recall.register(instance.functions, lambda: _helper(instance))
        health.register(instance.functions, instance)
        self.duck = instance.new_session()
        self.settings = Settings()
        self.autocommit = autocommit
        self.progress = Cancellable(progress if progress is not None else NoProgress())
        self.origins = Origins(instance, self.progress)
        self.transaction: Tx | None = None
        self._texts = sql.Texts()
        self._repeats = Repeats(self)
        self._pending: weakref.ref[Pending] | None = None
        self.once: set[str] = set()
        self.environment = Environment(instance)
        self._names = Names(self.duck, instance, self.environment)
        self.planned = self._names.planned
        self._deadline = Deadline(self.interrupt, self.origins.rows_done.pause)
        self.process = forks.watch(self)

    # -- one statement after the other ----------------------------------------

    def run(self, text: str, parameters: Parameters = None) -> Result:
        """Run every statement of `text` and return the last one's result."""
        known = self._repeats.answer(text, parameters)
        if known is not None:
            return known
        with self.limit():
            return self._run(text, parameters)

    def limit(self) -> contextlib.AbstractContextManager[None]:
        """Bound what is done inside by `statement_timeout`."""
        return self._deadline.limit(self.settings.statement_timeout)

    def _run(self, text: str, parameters: Parameters) -> Result:
        self.progress.reset()
        self.free_connection()
        self.origins.begin(text)
        parsed = self.parse(text)
        result: Result | None = None
        for one in parsed:
            if result is not None:
                result.drain()
            # As in DuckDB's client, parameters are those of the last statement.
            given = parameters if one is parsed[-1] else None
            try:
                result = self.run_statement(one.statement, given)
            except Error as error:
                error.position = one.in_script(error.position)
                raise
        if len(parsed) == 1 and isinstance(parsed[0].statement, TopK):
            self._repeats.keep(text, parsed[0].statement)
        return result if result is not None else Result(None, [])

    def parse(self, text: str) -> tuple[sql.Parsed, ...]:
        """Return the statements of `text`, parsed once per text."""
        return self._texts.parse(text)

    def run_statement(self, statement: Statement, parameters: Parameters) -> Result:
        """Run one statement; a failure inside a transaction is remembered."""
        self.instance.functions.renew_macros(self.duck, outside=self.transaction is None)
        if not isinstance(statement, Transaction):
            self._refuse_failed()
            boundaries.begin_for(self, statement)
        if self.transaction is not None:
            self.transaction.thread = threading.get_ident()
        self.instance.functions.context.serve(self.settings, self.origins.rows_done)
        self.instance.functions.take_failure()
        shared = self.environment.note(statement)
        try:
            try:
                return self._dispatch(statement, parameters)
            except DamagedError as error:
                self.instance.found_damage(error)
                return self._dispatch(statement, parameters)  # by DuckDB, exactly
        except (duckdb.Error, OSError, RuntimeError) as error:
            raise self.failed(error) from error
        except BaseException as error:
            # Ctrl-C, too: what the statement changed may not be recorded.
            self._remember_failure(error)
            if self.transaction is not None and not self.transaction.explicit:
                self.rollback()  # the statement's own
            raise
        finally:
            if shared:
                self.environment.database_changed()

    def _dispatch(self, statement: Statement, parameters: Parameters) -> Result:
        match statement:
            case TopK():
                return query.run_topk(self, statement, parameters)
            case Embedded():
                return embedded.run_embedded(self, statement, parameters)
            case Passthrough():
                return dml.run_passthrough(self, statement, parameters)
            case Write():
                return dml.run_write(self, statement, parameters)
            case Transaction(action):
                {"begin": self.begin, "commit": self.commit, "rollback": self.rollback}[action]()
                return Result(None, [])
            case Explain():
                return explain.explain(self, statement, parameters)
            case CreateIndex():
                return statements.create_index(self, statement)
            case DropIndex():
                return statements.drop_index(self, statement)
            case Reindex():
                return statements.reindex(self, statement)
            case Analyze():
                return statements.analyze(self, statement)
            case CreateExtension():
                return statements.create_extension(self, statement)
            case SetSetting():
                return statements.set_setting(self, statement)
            case ResetSetting():
                return statements.reset_setting(self, statement)
            case Show():
                return statements.show(self, statement)
            case _:
                assert_never(statement)

    # -- DuckDB ---------------------------------------------------------------

    def free_connection(self) -> None:
        """Drain the result that DuckDB still holds, or drop it if nobody has it any more."""
        held, self._pending = self._pending, None
        if held is None:
            return
        pending = held()
        if pending is None:
            self.duck.abort()
        else:
            pending.drain()

    def query(self, text: str, parameters: Any) -> tuple[list[Field], list[Row]]:
        """Run a query of our own on the session's connection."""
        duck = self.duck.execute(text, parameters or None)
        return [Field(d[0], str(d[1])) for d in duck.description or []], duck.fetchall()

    def query_arrow(self, text: str, parameters: Mapping[str, Any]) -> Any:
        """Run a query of our own and return an Arrow table."""
        relation = self.duck.sql(text, params=dict(parameters) or None)
        return relation.to_arrow_table()

    def run_verbatim(self, text: str, parameters: Parameters = None) -> Result:
        """Run text on DuckDB as it is."""
        return self.run_duck(text, duck_parameters(parameters, named=False), read=False)

    def register_view(self, name: str, table: Any) -> None:
        """Make an Arrow table readable on the session's connection."""
        self.duck.register(name, table)

    def run_duck(self, text: str, parameters: Any, *, read: bool, counts: bool = False) -> Result:
        """Run text on DuckDB and leave its result there until it is fetched or in the way."""
        duck = self.duck.execute(text, parameters)
        description = duck.description
        if counts or (
            not read and (not description or description[0][0].lower() in ("count", "success"))
        ):
            rows = duck.fetchall()
            count = rows[0][0] if rows and isinstance(rows[0][0], int) else -1
            return Result(None, [], rowcount=count)
        if not description:
            return Result(None, [])
        fields = [Field(d[0], str(d[1])) for d in description]
        pending = Pending(duck, fields, self.failed, self.limit)
        self._pending = weakref.ref(pending)
        return pending

    def run_many(self, text: str, rows: Sequence[Parameters]) -> Result:
        """Run one statement for each set of parameters, all in one transaction."""
        self.progress.reset()
        self.free_connection()
        self.origins.begin(text)
        parsed = self.parse(text)
        if len(parsed) != 1:
            raise ProgrammingError("executemany takes exactly one statement")
        with self.limit():
            return dml.run_many(self, parsed[0].statement, rows)

    # -- transactions ---------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction; its snapshot is the database's state now."""
        self.free_connection()
        if self.transaction is not None:
            raise OperationalError("a transaction is already open", hint="COMMIT or ROLLBACK first")
        boundaries.begin(self, explicit=True)

    def commit(self) -> None:
        """Commit; does nothing outside a transaction, raises if a statement of it failed."""
        self.free_connection()
        transaction = self.transaction
        if transaction is None:
            return
        if transaction.failed is not None:
            self.rollback()
            raise OperationalError(
                f"the transaction was rolled back, for a statement of it failed: "
                f"{transaction.failed}",
                hint="run its statements again",
            )
        try:
            boundaries.commit(self, transaction)
        except (duckdb.Error, Error) as error:
            raise translate(error) from error

    def rollback(self) -> None:
        """Roll back; does nothing outside a transaction."""
        self._pending = None
        boundaries.rollback(self)

    def in_transaction(self, work: Callable[[Tx], Result], writes: Writes = tuple) -> Result:
        """Run `work` in the open transaction, or in one of its own.

        Its own first takes the tables of the indexes that `writes` gives.
        """
        return boundaries.in_transaction(self, work, writes)

    def _refuse_failed(self) -> None:
        if self.transaction is not None and self.transaction.failed is not None:
            raise OperationalError(
                "the transaction is aborted, for a statement of it failed: "
                f"{self.transaction.failed}",
                hint="ROLLBACK it",
            )

    def failed(self, error: Exception) -> Error:
        """Return the error to raise for one of DuckDB's, and remember it in the transaction."""
        if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
            self._remember_failure(KeyboardInterrupt())
            raise KeyboardInterrupt from error
        own = self.instance.functions.take_failure()
        translated = self.origins.named(own) or translate(error)
        self._remember_failure(translated)
        return translated

    def _remember_failure(self, error: BaseException) -> None:
        if self.transaction is not None:
            message = error.message if isinstance(error, Error) else repr(error)
            self.transaction.failed = message

    # -- names ----------------------------------------------------------------

    def forget_names(self) -> None:
        """Look up again what names mean."""
        self._names.forget()

    @property
    def standard_order(self) -> bool:
        """Whether ORDER BY means ascending, NULLs last."""
        return self._names.standard_order

    @property
    def at_home(self) -> bool:
        """Whether the database with our indexes is the current one."""
        return self._names.at_home

    @property
    def threads(self) -> int:
        """How many threads DuckDB uses."""
        return self._names.threads

    def describe(self, table: TableName) -> TableInfo | None:
        """Return what a table name means here."""
        return self._names.describe(table)

    def has_triggers(self) -> bool:
        """Tell whether the database has triggers."""
        return self._names.has_triggers()

    def prepared(self, topk: TopK) -> Prepared | Unbound:
        """Return what of a TopK does not depend on values."""
        return self._names.prepared(topk)

    def schema_changed(self) -> None:
        """Forget what names meant, in every session."""
        if self.transaction is not None:
            self.transaction.changed_schema = True
        self.instance.epoch += 1
        self._names.forget()

    # -- data and interrupts --------------------------------------------------

    def register(self, name: str, data: Any) -> None:
        """Make data of Python readable as a table."""
        self.free_connection()
        try:
            self.duck.register(name, data)
        except (duckdb.Error, RuntimeError) as error:
            raise translate(error) from error
        stream = not hasattr(data, "__len__")  # Arrow batches
        (self.once.add if stream else self.once.discard)(name.lower())

    def unregister(self, name: str) -> None:
        """Take such a table away."""
        self.free_connection()
        self.duck.unregister(name)

    def frame(self, result: Result, method: str) -> Any:
        """Return the rest of a result in columns."""
        with self.instance.duck.cursor() as cursor:
            return result.frame(method, cursor)

    def interrupt(self) -> None:
        """Cancel the running statement; called from another thread."""
        self.progress.cancel()
        self.duck.interrupt()

    def close(self) -> None:
        """Roll back what is open and leave the instance; a forked process leaves it alone."""
        if self.process != os.getpid():
            return
        self.rollback()
        self.duck.close()
        self.instance.close()


@contextlib.contextmanager
def _helper(instance: Instance) -> Iterator[Session]:
    """Give a session to a function that runs inside a statement of another one."""
    session = Session(instance)
    with contextlib.closing(session.duck):
        yield session
