"""Writes, transactions and reopening in any order, on two connections, against a dictionary.

The model: the committed rows, and for each connection with an open transaction its own view of
them. What a query must give follows from the view by NumPy. After every step the index must hold
what the table holds.

    pytest -m slow tests/property/test_machine.py      12,000 steps
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import hybridq
from tests.equal import index_equals_table

DIM = 3
BY_ID = ("id = ?", "id IN (?)")  # as one statement, and by the general way
WHO = st.sampled_from([0, 1])
IDS = st.integers(0, 40)
LABELS = st.sampled_from([None, "a", "b", "é"])
NUMBERS = st.sampled_from([None, -1, 0, 1, 2])
COMPONENT = st.sampled_from([-2.0, -0.5, 0.0, 1.0, 1.5, 3.0])
VECTORS = st.none() | st.lists(COMPONENT, min_size=DIM, max_size=DIM)
QUERIES = st.lists(COMPONENT, min_size=DIM, max_size=DIM)
ROWS = st.tuples(IDS, LABELS, NUMBERS, VECTORS)
INSERT = "INSERT INTO t (id, label, n, v) VALUES (?, ?, ?, ?)"
MERGE = (
    "MERGE INTO t USING (SELECT unnest(?::INTEGER[]) AS i) AS s ON id = i "
    "WHEN MATCHED AND id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = 2, v = NULL "
    "WHEN NOT MATCHED THEN INSERT (id, label, n, v) VALUES (i, 'b', 0, [1, 0, -2])"
)
BAD_ROWS = {
    "INSERT INTO t (id, v) VALUES (7000, [1, 2, 3]), "
    "(7001, [1, 2, 'nan'::FLOAT])": hybridq.DataError,
    "INSERT INTO t (id, v) SELECT 7000, [1, 2, 'inf'::FLOAT]": hybridq.DataError,
    "INSERT INTO t (id, v) VALUES (7000, [1, 2])": hybridq.DataError,
    "INSERT INTO t (id, v) VALUES (7000, NULL), (NULL, NULL)": hybridq.IntegrityError,
    "INSERT INTO t (id, v) VALUES (7000, NULL), (7000, NULL)": hybridq.IntegrityError,
    "UPDATE t SET id = 7000": None,
    "UPDATE t SET v = [0, 0, 'nan'::FLOAT]": None,
    "MERGE INTO t USING (SELECT 7000 AS i) AS s ON id = i WHEN NOT MATCHED THEN "
    "INSERT (id, v) VALUES (i, [0, 0, '-inf'::FLOAT])": hybridq.DataError,
    "EXPLAIN ANALYZE INSERT INTO t (id, v) VALUES (7000, [0, 0, 'nan'::FLOAT])": hybridq.DataError,
}
FILTERS = {
    "TRUE": lambda row: True,
    "n > 0": lambda row: row[1] is not None and row[1] > 0,
    "label = 'a'": lambda row: row[0] == "a",
    "label IS NULL": lambda row: row[0] is None,
    "n IN (0, 2) AND label <> 'b'": lambda row: row[1] in (0, 2) and row[0] not in (None, "b"),
    "n = 1 OR label = 'é'": lambda row: row[1] == 1 or row[0] == "é",
    "n = 77": lambda row: False,
}
PLANS = ("auto", "exact", "prefilter", "fused", "bitmap", "postfilter")


class Machine(RuleBasedStateMachine):
    """Two connections to one file; `views` holds the rows each sees inside its transaction."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "machine.duckdb"
        self.committed = {}
        self.views = [None, None]
        # DuckDB and we alike refuse a second writer; who wrote since its BEGIN is who may go on.
        self.wrote = [False, False]
        self.version = 0
        self.began = [0, 0]
        self.cons = []
        self.open()

    def open(self):
        self.cons = [hybridq.connect(self.path) for _ in range(2)]

    def teardown(self):
        for con in self.cons:
            con.close()
        self.folder.cleanup()

    @initialize(rows=st.lists(ROWS, max_size=30), nlist=st.sampled_from([1, 2, 5]))
    def create(self, rows, nlist):
        con = self.cons[0]
        con.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, label TEXT, n INTEGER, v FLOAT[{DIM}], "
            "note TEXT)"
        )
        self.committed = {row[0]: row[1:] for row in rows}
        if self.committed:
            con.executemany(INSERT, [(i, *row) for i, row in self.committed.items()])
        con.execute(f"CREATE INDEX i ON t USING ann (v) INCLUDE (label, n) WITH (nlist = {nlist})")

    def view(self, who):
        return self.committed if self.views[who] is None else self.views[who]

    def write(self, who, statement, given, after, *, many=False, error=hybridq.IntegrityError):
        """Run a write whose result is `after` (None: it must fail with `error`)."""
        con = self.cons[who]
        inside = self.views[who] is not None
        blocked = self.wrote[1 - who] or (inside and self.began[who] != self.version)
        run = con.executemany if many else con.execute
        if blocked:
            with pytest.raises(hybridq.OperationalError):
                run(statement, given)
        elif after is None:
            with pytest.raises(error):
                run(statement, given)
        else:
            run(statement, given)
        if blocked or after is None:
            if inside:
                # A failed statement ends the transaction: only ROLLBACK is left.
                with pytest.raises(hybridq.OperationalError):
                    con.execute("SELECT 1")
                con.rollback()
                self.views[who], self.wrote[who] = None, False
        elif inside:
            self.views[who], self.wrote[who] = after, True
        else:
            self.version += 1
            self.committed = after

    @rule(who=WHO, row=ROWS)
    def insert(self, who, row):
        view = self.view(who)
        after = None if row[0] in view else {**view, row[0]: row[1:]}
        self.write(who, INSERT, list(row), after)

    @rule(who=WHO, rows=st.lists(ROWS, min_size=2, max_size=5, unique_by=lambda r: r[0]))
    def insert_many(self, who, rows):
        view = self.view(who)
        taken = any(row[0] in view for row in rows)
        after = None if taken else {**view, **{row[0]: row[1:] for row in rows}}
        self.write(who, INSERT, [list(row) for row in rows], after, many=True)

    @rule(who=WHO, shift=st.integers(1, 41))
    def insert_select(self, who, shift):
        view = self.view(who)
        new = {i + shift: row for i, row in view.items() if row[1] == 1}
        if new:
            after = None if set(new) & set(view) else {**view, **new}
            text = "INSERT INTO t (id, label, n, v) SELECT id + ?, label, n, v FROM t WHERE n = 1"
            self.write(who, text, [shift], after)

    @rule(who=WHO, ids=st.lists(IDS, min_size=1, max_size=5, unique=True))
    def merge(self, who, ids):
        view = self.view(who)
        after = {k: row for k, row in view.items() if k not in ids or k % 2}
        for i in ids:
            if i not in view:
                after[i] = ("b", 0, [1.0, 0.0, -2.0])
            elif i % 2:
                after[i] = (view[i][0], 2, None)
        self.write(who, MERGE, [ids], after)

    @rule(who=WHO, statement=st.sampled_from(list(BAD_ROWS)))
    def fail(self, who, statement):
        """A row that cannot be: the statement fails whole, and the transaction with it."""
        kind = BAD_ROWS[statement]
        if kind is None:
            if len(self.view(who)) < 2:
                return  # it would change what is there
            kind = hybridq.DatabaseError
        self.write(who, statement, None, None, error=kind)

    @precondition(lambda self: self.committed)
    @rule(who=WHO, note=st.sampled_from(["x", "y"]))
    def update_beside(self, who, note):
        if self.view(who):
            self.write(who, "UPDATE t SET note = ?", [note], dict(self.view(who)))

    @rule(who=WHO)
    def truncate(self, who):
        if 0 < len(self.view(who)) < 5:
            self.write(who, "TRUNCATE t", None, {})

    @rule(who=WHO, row=ROWS)
    def upsert(self, who, row):
        view = self.view(who)
        after = {**view, row[0]: row[1:]}
        self.write(who, INSERT.replace("INSERT", "INSERT OR REPLACE", 1), list(row), after)

    @precondition(lambda self: self.committed)
    @rule(who=WHO, data=st.data(), vector=VECTORS)
    def update_vector(self, who, data, vector):
        i = self.pick(who, data)
        view = self.view(who)
        if i in view:
            after = {**view, i: (*view[i][:2], vector)}
            where = data.draw(st.sampled_from(BY_ID))
            self.write(who, f"UPDATE t SET v = ? WHERE {where}", [vector, i], after)

    @precondition(lambda self: self.committed)
    @rule(who=WHO, data=st.data(), label=LABELS, n=NUMBERS)
    def update_attributes(self, who, data, label, n):
        i = self.pick(who, data)
        view = self.view(who)
        if i in view:
            after = {**view, i: (label, n, view[i][2])}
            text = f"UPDATE t SET label = ?, n = ? WHERE {data.draw(st.sampled_from(BY_ID))}"
            self.write(who, text, [label, n, i], after)

    @precondition(lambda self: self.committed)
    @rule(who=WHO, data=st.data())
    def update_computed(self, who, data):
        i = self.pick(who, data)
        view = self.view(who)
        if i in view:
            label, n, vector = view[i]
            after = {**view, i: (label, n if n is None else n + 1, vector)}
            text = f"UPDATE t SET n = n + 1 WHERE {data.draw(st.sampled_from(BY_ID))}"
            self.write(who, text, [i], after)

    @precondition(lambda self: self.committed)
    @rule(who=WHO, data=st.data(), new=st.integers(50, 60))
    def update_key(self, who, data, new):
        i = self.pick(who, data)
        view = self.view(who)
        if i in view and new != i:
            after = {k: row for k, row in view.items() if k != i}
            after = None if new in view else {**after, new: view[i]}
            self.write(who, "UPDATE t SET id = ? WHERE id = ?", [new, i], after)

    @rule(who=WHO, low=IDS, width=st.integers(0, 6))
    def delete(self, who, low, width):
        view = self.view(who)
        after = {i: row for i, row in view.items() if not low <= i <= low + width}
        if len(after) < len(view):
            self.write(who, "DELETE FROM t WHERE id BETWEEN ? AND ?", [low, low + width], after)

    @precondition(lambda self: self.committed)
    @rule(who=WHO, data=st.data())
    def delete_one(self, who, data):
        i = self.pick(who, data)
        view = self.view(who)
        if i in view:
            after = {k: row for k, row in view.items() if k != i}
            self.write(who, "DELETE FROM t WHERE id = ?", [i], after)

    def pick(self, who, data):
        return data.draw(st.sampled_from(sorted(self.view(who)) or [0]))

    @precondition(lambda self: None in self.views)
    @rule(who=WHO)
    def begin(self, who):
        who = who if self.views[who] is None else 1 - who
        self.cons[who].begin()
        self.views[who], self.began[who] = dict(self.committed), self.version

    @precondition(lambda self: None in self.views)
    @rule(who=WHO, row=ROWS)
    def begin_and_upsert(self, who, row):
        self.begin(who)
        who = who if self.views[who] is not None else 1 - who
        self.upsert(who, row)

    @precondition(lambda self: any(view is not None for view in self.views))
    @rule(who=WHO)
    def commit(self, who):
        who = who if self.views[who] is not None else 1 - who
        self.cons[who].commit()
        if self.wrote[who]:
            self.committed = self.views[who]
            self.version += 1
        self.views[who], self.wrote[who] = None, False

    @precondition(lambda self: any(view is not None for view in self.views))
    @rule(who=WHO)
    def rollback(self, who):
        who = who if self.views[who] is not None else 1 - who
        self.cons[who].rollback()
        self.views[who], self.wrote[who] = None, False

    @rule(who=WHO)
    def reindex(self, who):
        if any(self.wrote) or self.views[who] is not None:
            with pytest.raises(hybridq.Error):
                self.cons[who].execute("REINDEX INDEX i")
            if self.views[who] is not None:
                self.rollback(who)
        else:
            self.cons[who].execute("REINDEX INDEX i")
            # An older transaction can no longer write: its view of the index is gone.
            self.version += 1

    @rule(who=WHO)
    def merge_parts(self, who):
        """All parts of the index into one segment, whatever transactions are open."""
        if self.views[who] is None:
            self.cons[who].execute("SELECT * FROM hybridq_merge('i')").fetchall()

    @rule()
    def reopen(self):
        for con in self.cons:
            con.close()
        self.views, self.wrote = [None, None], [False, False]
        self.open()
        assert self.cons[0].notices == []

    @rule(
        who=WHO,
        query=QUERIES,
        k=st.sampled_from([1, 3, 10, 100]),
        where=st.sampled_from(list(FILTERS)),
        plan=st.sampled_from(PLANS),
    )
    def search(self, who, query, k, where, plan):
        con = self.cons[who]
        con.execute("SET recall = 1")
        text = f"SELECT id, v <-> ? AS d, label, n FROM t WHERE {where} ORDER BY d LIMIT {k}"
        con.execute(f"SET plan = '{plan}'")
        try:
            found = con.execute(text, [query]).fetchall()
        except hybridq.ProgrammingError as error:
            # Inside a transaction that wrote, and for OR, there is no index plan to force.
            if "cannot run" not in str(error):
                raise
            if self.views[who] is not None:
                self.rollback(who)  # first: a failed transaction takes no other statement
            con.execute("RESET plan")
            return
        con.execute("RESET plan")
        expected = []
        for i, row in self.view(who).items():
            if not FILTERS[where](row):
                continue
            distance = None
            if row[2] is not None:
                away = np.array(row[2]) - np.array(query)
                distance = float(np.float32(np.sqrt((away * away).sum())))
            expected.append((i, distance, *row[:2]))
        expected.sort(key=lambda r: (float("inf") if r[1] is None else r[1], r[0]))
        assert found == expected[:k]

    @invariant()
    def tables_agree(self):
        for who, con in enumerate(self.cons):
            if not self.committed and self.views[who] is None:
                continue
            with contextlib.suppress(hybridq.ProgrammingError):
                rows = con.execute("SELECT id, label, n, v FROM t").fetchall()
                seen = {i: (a, n, None if v is None else list(v)) for i, a, n, v in rows}
                assert seen == self.view(who)
        index_equals_table(self.cons[0])


Machine.TestCase.settings = settings(
    deadline=None,
    derandomize=True,
    max_examples=20,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
test_machine = Machine.TestCase


class LongMachine(Machine):
    """The same, for longer."""


LongMachine.TestCase.settings = settings(
    deadline=None,
    derandomize=True,
    max_examples=200,
    stateful_step_count=60,
    suppress_health_check=list(HealthCheck),
)
test_machine_for_long = pytest.mark.slow(LongMachine.TestCase)
