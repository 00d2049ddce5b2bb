"""A small indexed table in a file, and what must hold of it however it was left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import hybridq

DIM = 6
Row = tuple[int, str | None, list[float] | None]


def rows(count: int, seed: int = 0, start: int = 0) -> list[Row]:
    """Rows (id, label, vector) in clusters; some labels and vectors are NULL."""
    chosen = np.random.default_rng([seed, start, count])
    centres = np.random.default_rng(5).normal(size=(8, DIM)) * 4
    out: list[Row] = []
    for i in range(start, start + count):
        vector = (centres[chosen.integers(8)] + chosen.normal(size=DIM)).astype(np.float32)
        label = None if chosen.random() < 0.1 else "abc"[chosen.integers(3)]
        out.append((i, label, None if chosen.random() < 0.05 else vector.tolist()))
    return out


def create(path: Path | str, count: int = 400, *, nlist: int = 8) -> None:
    """Make a database with `count` rows and the index `photos_v`."""
    with hybridq.connect(path) as con:
        con.execute(f"CREATE TABLE photos (id INTEGER PRIMARY KEY, label TEXT, v FLOAT[{DIM}])")
        if count:
            con.executemany("INSERT INTO photos VALUES (?, ?, ?)", rows(count))
        con.execute(f"CREATE INDEX photos_v ON photos USING ann (v) WITH (nlist = {nlist})")


def copy_of(path: Path, folder: Path) -> Path:
    """Copy a database with its segments, times included."""
    shutil.copy2(path, folder)
    shutil.copytree(f"{path}.hybridq", folder / f"{path.name}.hybridq")
    return folder / path.name


def content(con: Any) -> dict[int, tuple[str | None, tuple[float, ...] | None]]:
    """Return the table's rows by id."""
    found = con.execute("SELECT id, label, v FROM photos").fetchall()
    return {i: (label, None if v is None else tuple(v)) for i, label, v in found}


def expected(con: hybridq.Connection, query: np.ndarray, label: str | None, k: int) -> list[int]:
    """Return the ids of the k nearest by NumPy over the whole table; NULL vectors come last."""
    table = [(i, v) for i, (x, v) in content(con).items() if label is None or x == label]

    def place(item: tuple[int, tuple[float, ...] | None]) -> tuple[float, int]:
        i, v = item
        if v is None:
            return float("inf"), i
        away = np.array(v, np.float64) - query
        return float(np.float32(np.sqrt((away * away).sum()))), i

    return [i for i, _ in sorted(table, key=place)[:k]]


def explain(con: hybridq.Connection, text: str, given: list[Any]) -> dict[str, Any]:
    """Return EXPLAIN's JSON of a TopK."""
    found: dict[str, Any] = json.loads(
        con.execute(f"EXPLAIN (FORMAT JSON) {text}", given).fetchall()[0][1]
    )
    return found


def uses_index(con: hybridq.Connection) -> bool:
    """Tell whether a plain TopK is answered from the index."""
    plan = explain(con, "SELECT id FROM photos ORDER BY v <-> ? LIMIT 3", [[0.0] * DIM])
    return plan["index"] == "photos_v" and not plan["detail"].get("by_duckdb")


def check(con: hybridq.Connection, *, indexed: bool | None = True) -> None:
    """Vector queries, filtered and not, equal brute force; from the index if it is to be there.

    With `indexed` None, the index may be used or not.
    """
    assert indexed is None or uses_index(con) is indexed
    chosen = np.random.default_rng(1)
    for settings in ({"recall": "1"}, {"plan": "'fused'", "nprobe": "100000"}):
        if not indexed and "plan" in settings:
            continue
        for name, value in settings.items():
            con.execute(f"SET {name} = {value}")
        for label in (None, "a", "b"):
            query = (chosen.normal(size=DIM) * 4).astype(np.float32)
            where = "" if label is None else f"WHERE label = '{label}'"
            text = f"SELECT id FROM photos {where} ORDER BY v <-> ? LIMIT 15"
            got = [i for (i,) in con.execute(text, [query]).fetchall()]
            assert got == expected(con, query.astype(np.float64), label, 15)
        everything = "SELECT id FROM photos ORDER BY v <-> ? LIMIT 100000"
        found = [i for (i,) in con.execute(everything, [[0.0] * DIM]).fetchall()]
        assert sorted(found) == sorted(content(con))
        for name in settings:
            con.execute(f"RESET {name}")


def segments(path: Path) -> list[Path]:
    """Return the segment files beside a database."""
    return sorted(Path(f"{path}.hybridq").glob("*.seg"))


def in_another_process(code: str, *arguments: str) -> str:
    """Run Python code in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def foreign(path: Path, *statements: str) -> None:
    """Run statements on the file by plain DuckDB in another process."""
    code = "import duckdb, sys\nwith duckdb.connect(sys.argv[1]) as con:\n"
    code += "    for s in sys.argv[2:]: con.execute(s)"
    in_another_process(code, str(path), *statements)
