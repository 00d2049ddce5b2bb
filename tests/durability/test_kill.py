"""kill -9 at random moments: what was acknowledged is there, the rest is gone or whole.

python -m pytest -m slow tests/durability/test_kill.py      240 times, and longer
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import hybridq
from tests.durability.cases import check, count, create, vector

REPOSITORY = Path(__file__).parents[2]

BEGIN = """
import sys, hybridq
from tests.durability.cases import INSERT, row, vector
con = hybridq.connect(sys.argv[1])
def said(*words):
    sys.stdout.write(" ".join(map(str, words)) + chr(10))
    sys.stdout.flush()
said("ready")
"""

# Each step writes a batch in one statement or transaction, then says that it is done.
INSERTS = """
for step in range(100000):
    first = 10000 + 5 * step
    rows = [(i, 3, "bee", vector(i).tolist(), str(step)) for i in range(first, first + 5)]
    con.executemany(INSERT, rows)
    said("done", step)
"""
UPDATES = """
for step in range(100000):
    con.execute("UPDATE t SET v = ?, note = ? WHERE id % 7 = ?",
                [vector(step).tolist(), str(step), step % 7])
    said("done", step)
"""
TRANSACTIONS = """
for step in range(100000):
    con.execute("BEGIN")
    con.execute("DELETE FROM t WHERE note = ?", [str(step - 3)])
    for i in range(10000 + 5 * step, 10005 + 5 * step):
        con.execute(INSERT, (i, 3, "bee", vector(i).tolist(), str(step)))
    con.execute("UPDATE t SET id = -id WHERE id = ?", [step % 600 + 1])
    con.execute("COMMIT")
    said("done", step)
"""
# Every change is merged into a segment in the background, while the next ones are written.
MERGES = """
from hybridq.index import upkeep
upkeep.DELTA_BYTES, upkeep.LOG_ROWS = 1, 20
for step in range(100000):
    first = 10000 + 5 * step
    rows = [(i, 3, "bee", vector(i).tolist(), str(step)) for i in range(first, first + 5)]
    con.executemany(INSERT, rows)
    con.execute("UPDATE t SET g = ? WHERE id % 7 = ?", [step % 5, step % 7])
    con.execute("UPDATE t SET v = ? WHERE id = ?", [vector(step).tolist(), step % 600])
    con.execute("DELETE FROM t WHERE id = ? OR id = ?", [-step, 600 + step])
    con.execute("INSERT INTO t VALUES (?, 1, NULL, NULL, 'x')", [-step - 1])
    if step % 5 == 4:
        con.execute("CHECKPOINT")
    said("done", step)
"""
# One row at a time by its key: a row is inserted, changed twice, and an old one deleted.
BY_KEY = """
for step in range(100000):
    con.execute(INSERT, (10000 + step, 3, "bee", vector(step).tolist(), "x"))
    con.execute("UPDATE t SET v = ? WHERE id = ?", [vector(step + 1).tolist(), 10000 + step])
    con.execute("UPDATE t SET note = ?, g = ? WHERE id = ?", [str(step), step % 5, 10000 + step])
    con.execute("DELETE FROM t WHERE id = ?", [10000 + step - 7])
    said("done", step)
"""
INDEXES = """
for step in range(100000):
    con.execute("DROP INDEX IF EXISTS i")
    con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 12)")
    said("done", step)
"""
REINDEXES = """
for step in range(100000):
    con.execute("REINDEX INDEX i")
    con.execute("UPDATE t SET g = 3 WHERE id = ?", [step])
    con.execute("CHECKPOINT")
    said("done", step)
"""


def run_and_kill(path, work, seconds):
    """Run `work` on the database in a process killed after `seconds`; return its last step."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + work, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        steps = [line.split()[1] for line in process.stdout if line.startswith("done")]
    assert process.returncode == -signal.SIGKILL
    return int(steps[-1]) if steps else -1


def batches(con):
    """Return how many rows of each step there are."""
    found = con.execute(
        "SELECT note::INTEGER, count(*) FROM t WHERE length(note) < 20 GROUP BY 1"
    ).fetchall()
    return dict(found)


def inserted(con, last):
    found = batches(con)
    assert set(range(last + 1)) <= set(found) <= set(range(last + 2))
    assert set(found.values()) <= {5}


def updated(con, last):
    sizes = {r: sum(i % 7 == r for i in range(600)) for r in range(7)}
    expected = {step: sizes[step % 7] for step in range(max(0, last - 6), last + 1)}
    following = {s: n for s, n in expected.items() if s % 7 != (last + 1) % 7}
    following[last + 1] = sizes[(last + 1) % 7]
    assert batches(con) in (expected, following)
    for note, vectors in con.execute(
        "SELECT note::INTEGER, list(v) FROM t WHERE length(note) < 20 GROUP BY 1"
    ).fetchall():
        assert all(np.array_equal(v, vector(note)) for v in vectors)


def transacted(con, last):
    found = batches(con)
    done = last + 1 if last + 1 in found else last
    assert found == dict.fromkeys(range(max(0, done - 2), done + 1), 5)
    assert count(con, "id < 0") == done + 1
    assert count(con, "length(note) > 20") == 600


def changed(con, last):
    con.execute("DELETE FROM t WHERE note = 'x'")
    found = batches(con)
    done = last + 1 if last + 1 in found else last
    whole = set(range(max(0, done - 6), done + 1))
    assert whole <= set(found) <= whole | {done - 7}
    assert set(found) == whole or done > last
    for note, v in con.execute("SELECT note, v FROM t WHERE length(note) < 20").fetchall():
        assert np.array_equal(v, vector(int(note) + 1))


def merged(con, last):
    con.execute("DELETE FROM t WHERE note = 'x'")
    inserted(con, last)


def kept(con, last):
    assert count(con) == 600


WORKS = {
    "inserts": (INSERTS, inserted),
    "updates": (UPDATES, updated),
    "transactions": (TRANSACTIONS, transacted),
    "merges": (MERGES, merged),
    "by key": (BY_KEY, changed),
    "create index": (INDEXES, kept),
    "reindex": (REINDEXES, kept),
}


def survive(path, name, moment):
    work, acknowledged = WORKS[name]
    with hybridq.connect(path) as con:
        create(con)
    last = run_and_kill(path, work, moment)
    with hybridq.connect(path) as con:
        assert con.notices == []  # the log had all of it
        acknowledged(con, last)
        indexed = con.execute("SELECT count(*) FROM hybridq.indexes").fetchall() == [(1,)]
        assert indexed or name == "create index"
        check(con, index=indexed)
        con.execute("DROP INDEX IF EXISTS i")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        check(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)


@pytest.mark.parametrize("name", ["transactions", "merges", "by key", "create index", "reindex"])
def test_killed_once(tmp_path, name):
    moment = np.random.default_rng(len(name)).uniform(0.05, 0.4)
    survive(tmp_path / "album.duckdb", name, moment)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("round_", range(40))
def test_killed(tmp_path, name, round_):
    moment = np.random.default_rng([len(name), round_]).uniform(0.0, 0.6)
    survive(tmp_path / "album.duckdb", name, moment)


def test_killed_again_and_again(tmp_path):
    """Crashes of one file one after the other, without a clean close between them."""
    path = tmp_path / "album.duckdb"
    with hybridq.connect(path) as con:
        create(con)
    work = INSERTS.replace("10000 + 5 * step", "BASE + 5 * step")
    total = 0
    for round_ in range(2):
        base = 10_000 * (round_ + 1)
        last = run_and_kill(path, work.replace("BASE", str(base)), 0.1 + 0.1 * round_)
        total += 5 * (last + 1)
    with hybridq.connect(path) as con:
        assert count(con) - 600 - total in (0, 5, 10)
        check(con)
