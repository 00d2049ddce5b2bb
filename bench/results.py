"""Result files: JSON lines, each written whole; the first says where, on what and how.

A line that was cut off by an interruption is dropped when the file is read, and removed when it is
written to again.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OWN = "hybridq"
RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
FORMAT = 1


class ResultError(Exception):
    """A result file cannot be used: says which and why."""


@dataclass(frozen=True)
class Results:
    """A run: what it ran on and with, and its lines."""

    path: Path
    head: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of a kind; of lines with one key, the last."""
        found = {key(line): line for line in self.lines if line["kind"] == kind}
        return list(found.values())


def key(line: dict[str, Any]) -> str:
    """Return what a line measures: a resumed run does not measure it again."""
    names = ("kind", "data", "cell", "engine", "k", "target")
    return json.dumps([line.get(name) for name in names])


def turns(engines: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what hybridq did in the turns of an engine of a search line.

    An engine that completed the line later was measured beside hybridq once more.
    """
    own: dict[str, Any] = engines[name].get("beside", engines.get(OWN, {}))
    return own


def joined(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the engines of a search line with those that were measured later."""
    own = later.get(OWN, {})
    beside = {n: own[n] for n in ("p50", "recall", "reached") if n in own}
    more = {n: {**e, "beside": beside} for n, e in later.items() if n not in earlier}
    return {**earlier, **more} if earlier else later


def read(path: Path) -> Results:
    """Read a result file; ResultError where it is none."""
    try:
        text = path.read_text()
    except OSError as error:
        there = ", ".join(p.stem for p in sorted(RESULTS.glob("*.jsonl"))) or "none"
        raise ResultError(f"{path} cannot be read ({error.strerror}); results: {there}") from error
    lines: list[dict[str, Any]] = []
    whole = text.split("\n")
    for n, line in enumerate(whole, 1):
        if not line:
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            if n == len(whole):
                break
            raise ResultError(f"{path}:{n} is damaged: remove the line") from error
        lines.append(content)
    if not lines or lines[0].get("kind") != "head" or lines[0].get("format") != FORMAT:
        raise ResultError(f"{path} is no result of python -m bench run")
    return Results(path, lines[0], lines[1:])


class Writer:
    """Appends lines to a result file, each at once."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict[str, Any]] = {}
        """The lines that are there, by key."""
        if path.exists():
            known = read(path)
            changed = [n for n in ("settings", "rows") if known.head.get(n) != head.get(n)]
            if changed:
                raise ResultError(
                    f"{path} was measured with other {' and '.join(changed)}: name another --out"
                )
            self.done = {key(line): line for line in known.lines}
            _drop_torn_line(path)
        else:
            self.write(head)

    def write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line, default=_plain) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[key(line)] = line


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)


def head(settings: dict[str, Any], rows: dict[str, int]) -> dict[str, Any]:
    """Return the first line of a run."""
    import duckdb

    import hybridq

    return {
        "kind": "head",
        "format": FORMAT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "commit": revision(),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            "hybridq": hybridq.__version__,
            "duckdb": duckdb.__version__,
            "numpy": np.__version__,
        },
        "settings": settings,
        "rows": rows,
    }


def machine() -> dict[str, Any]:
    """Return what is worth knowing of this machine."""
    model, memory = platform.processor() or platform.machine(), 0
    cpus, total = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpus.exists():
        named = [n for n in cpus.read_text().splitlines() if n.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    if total.exists():
        memory = int(total.read_text().split()[1]) * 1024
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }


def revision() -> str:
    """Return the commit, with a `+` where hybridq differs from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", "hybridq")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*words: str) -> str:
    command: Sequence[str] = ["git", "-C", str(ROOT), *words]
    return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
