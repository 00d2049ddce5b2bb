"""Readers beside writers: every answer is right for one committed state, none older than its start.

    python -m tests.durability.test_readers 600 [rows]     for ten minutes, with figures

Writers race for the table; who loses rolls back. BEGIN and COMMIT are under a lock of the test's
own, so that the sequence of states is known: a row's vector, group and note follow from its id and
the number of times that it was written. A reader notes which states were committed before it asks
and after it was answered, and looks for one of them that gives just that answer.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import hybridq
from tests.equal import differences, index_equals_table

DIM = 8
GROUPS = 5
NEAREST = "SELECT id, v <-> $1 AS d FROM t WHERE g = $2 ORDER BY d LIMIT 10"
FETCHED = "SELECT id, v <-> $1 AS d, note FROM t WHERE g = $2 ORDER BY d LIMIT 10"
OPAQUE = "SELECT id, v <-> $1 AS d FROM t WHERE g = $2 AND note LIKE '%1' ORDER BY d LIMIT 10"
JOINED = (
    "SELECT n.id, n.d, t.note FROM (SELECT id, v <-> $1 AS d FROM t WHERE g = $2 "
    "ORDER BY d LIMIT 10) AS n JOIN t USING (id) ORDER BY n.d, n.id"
)


@functools.lru_cache(maxsize=1 << 16)
def vector(row: int, written: int) -> np.ndarray:
    """Return the vector of a row that was written so many times."""
    return np.random.default_rng([row, written]).normal(size=DIM).astype(np.float32)


def group(row: int, written: int) -> int:
    """Return the group of a row that was written so many times."""
    return (row + written) % GROUPS


@dataclass
class State:
    """A committed table: how often each row was written, which rows there are."""

    written: dict[int, int]

    def answer(self, query: np.ndarray, wanted: int, kind: str) -> list[tuple]:
        found = []
        for row, written in self.written.items():
            if group(row, written) != wanted or (kind == OPAQUE and written % 10 != 1):
                continue
            away = vector(row, written).astype(np.float64) - query.astype(np.float64)
            distance = float(np.float32(np.sqrt(np.cumsum(away * away)[-1])))
            note = (f"{row}/{written}",) if kind in (FETCHED, JOINED) else ()
            found.append((row, distance, *note))
        return sorted(found, key=lambda r: (r[1], r[0]))[:10]


@dataclass
class Run:
    """What readers and writers share."""

    path: Path
    states: list[State]
    committing: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)
    answers: int = 0
    commits: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)

    def read(self, seed: int) -> None:
        chance = random.Random(seed)
        with hybridq.connect(self.path) as con:
            con.execute("SET recall = 1")
            while not self.stop.is_set() and not self.failures:
                query = np.random.default_rng(chance.randrange(1 << 30)).normal(size=DIM)
                query = query.astype(np.float32)
                kind = chance.choice([NEAREST, NEAREST, FETCHED, OPAQUE, JOINED])
                wanted = chance.randrange(GROUPS)
                in_transaction = chance.random() < 0.2
                first = len(self.states) - 1
                if in_transaction:
                    con.begin()
                start = time.perf_counter()
                found = con.execute(kind, [query, wanted]).fetchall()
                self.seconds.append(time.perf_counter() - start)
                # A state counts as committed when its writer says so, which is a little later.
                with self.committing:
                    last = len(self.states)
                if in_transaction:
                    again = con.execute(kind, [query, wanted]).fetchall()
                    con.commit()
                    if again != found:
                        self.failures.append(f"{kind}: {found} and then {again}")
                if not any(s.answer(query, wanted, kind) == found for s in self.states[first:last]):
                    others = [
                        n
                        for n, s in enumerate(self.states)
                        if s.answer(query, wanted, kind) == found
                    ]
                    right = self.states[first].answer(query, wanted, kind)
                    self.failures.append(
                        f"{kind}: {set(found) ^ set(right)} of no state from {first} to {last}, "
                        f"but of {others}; transaction: {in_transaction}; the index lacks or "
                        f"has too much of: {differences(con)}"
                    )
                self.answers += 1

    def write(self, seed: int) -> None:
        chance = random.Random(seed)
        with hybridq.connect(self.path) as con:
            while not self.stop.is_set() and not self.failures:
                with self.committing:
                    before = len(self.states) - 1
                    written = dict(self.states[before].written)
                    con.begin()
                try:
                    self._change(con, chance, written)
                    if chance.random() < 0.1:
                        con.rollback()
                        continue
                    with self.committing:
                        con.commit()
                        # One that wrote nothing may be older than what others committed.
                        if written != self.states[before].written:
                            self.states.append(State(written))
                            self.commits += 1
                except hybridq.OperationalError as error:
                    if "serialization" not in str(error) and "being written" not in str(error):
                        self.failures.append(str(error))
                    self.refused += 1
                    con.rollback()

    def _change(self, con: hybridq.Connection, chance: random.Random, written: dict) -> None:
        for _ in range(chance.randint(1, 3)):
            rows = chance.sample(range(2 * len(self.states[0].written)), chance.choice([1, 5, 40]))
            there = [r for r in rows if r in written]
            what = chance.choice(["insert", "update", "update", "delete", "merge"])
            if what == "insert":
                new = [r for r in rows if r not in written]
                given = [(r, group(r, 0), vector(r, 0), f"{r}/0") for r in new]
                if given:
                    con.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", given)
                written |= dict.fromkeys(new, 0)
            elif what == "delete":
                con.executemany("DELETE FROM t WHERE id = ?", [[r] for r in there[:5]])
                for r in there[:5]:
                    del written[r]
            else:
                for r in there[:10]:
                    n = written[r] = written[r] + 1
                    given = [group(r, n), vector(r, n).tolist(), f"{r}/{n}", r]
                    con.execute(UPDATE if what == "update" else MERGE, given)

    def maintain(self) -> None:
        """Rebuild the index now and then."""
        with hybridq.connect(self.path) as con:
            while not self.stop.wait(2.0):
                with contextlib.suppress(hybridq.OperationalError):  # someone is writing
                    con.execute("REINDEX INDEX i")


UPDATE = "UPDATE t SET g = ?, v = ?, note = ? WHERE id = ?"
MERGE = (
    "MERGE INTO t USING (SELECT $4 AS id) AS s USING (id) "
    "WHEN MATCHED THEN UPDATE SET g = $1, v = $2, note = $3"
)


def run(folder: Path, seconds: float, rows: int) -> Run:
    """Run four readers and two writers."""
    path = folder / "readers.duckdb"
    run = Run(path, [State(dict.fromkeys(range(rows), 0))])
    with hybridq.connect(path) as con:
        con.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, v FLOAT[{DIM}], note TEXT)"
        )
        given = [(r, group(r, 0), vector(r, 0), f"{r}/0") for r in range(rows)]
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", given)
        con.execute("CREATE INDEX i ON t USING ann (v) INCLUDE (g)")
        work = [threading.Thread(target=run.read, args=[n]) for n in range(4)]
        work += [threading.Thread(target=run.write, args=[n]) for n in (100, 101)]
        work.append(threading.Thread(target=run.maintain))
        for thread in work:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not run.failures:
            time.sleep(0.1)
        run.stop.set()
        for thread in work:
            thread.join()
        if not run.failures:
            index_equals_table(con)
    if not run.failures:
        with hybridq.connect(path) as con:
            assert con.notices == []
            index_equals_table(con)
            found = con.execute("SELECT id, note FROM t ORDER BY id").fetchall()
            final = run.states[-1].written
            assert found == [(r, f"{r}/{n}") for r, n in sorted(final.items())]
    return run


def test_readers_beside_writers(tmp_path):
    done = run(tmp_path, 6, 150)
    assert done.failures == []
    assert done.answers > 20
    assert done.commits > 5


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        length = float(sys.argv[1])
        done = run(Path(made), length, int(sys.argv[2]) if len(sys.argv) > 2 else 400)
    taken = np.percentile(done.seconds, [50, 99, 100]) * 1000
    lines = [
        f"{length:g} s: {done.answers:,} answers (p50 {taken[0]:.2f}, p99 {taken[1]:.2f}, "
        f"most {taken[2]:.1f} ms), {done.commits:,} commits, {done.refused} refused, "
        f"{len(done.failures)} wrong",
        *done.failures[:3],
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(done.failures))
