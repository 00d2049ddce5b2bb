"""Engines in processes of their own: asked over pipes, one JSON object a line each way."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.cells import Cell
from bench.data.dataset import CACHE, Dataset
from bench.peers.base import ONE_THREAD, Answers, CannotError, Setting
from bench.peers.environments import environment
from bench.peers.registry import ENGINES

ROOT = Path(__file__).parent.parent.parent
_PATIENCE_SECONDS = 120.0


class PeerError(Exception):
    """An engine answered with an error, or stopped."""

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine, self.reason = engine, reason


class Remote:
    """An engine; it has one process for each `start` of its settings."""

    def __init__(self, name: str, data: Dataset, folder: Path | None = None) -> None:
        self.name = name
        self._data, self._folder = data, folder
        self._python, self.version = environment(ENGINES[name])
        self._processes: dict[str | None, subprocess.Popen[str]] = {}
        self._defined: set[tuple[str | None, str]] = set()
        self.ready: dict[str, Any] = {}

    def start(self, start: str | None = None) -> dict[str, Any]:
        """Start the process, build what is missing; return seconds and the build's report."""
        self._process(start)
        return self.ready

    def ladders(self, k: int) -> list[list[Setting]]:
        return list(self._ask(self._any(), {"do": "ladders", "k": k}))

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        return Answers(**self.about("answers", cell, k, queries, setting))

    def throughput(
        self,
        cell: Cell,
        k: int,
        queries: Sequence[int],
        setting: Setting,
        threads: int,
        seconds: float,
    ) -> float:
        more = {"threads": threads, "seconds": seconds}
        return float(self.about("throughput", cell, k, queries, setting, **more))

    def about(
        self, do: str, cell: Cell, k: int, queries: Sequence[int], setting: Setting, **more: Any
    ) -> Any:
        """Return the reply to a request about a cell's queries."""
        start = setting.get("start")
        process = self._process(start)
        if (start, cell.name) not in self._defined:
            self._ask(process, {"do": "define", "cell": cell.as_json()})
            self._defined.add((start, cell.name))
        asked = {"cell": cell.name, "k": k, "queries": list(queries), "setting": setting}
        return self._ask(process, {"do": do, **asked, **more})

    def ask(self, do: str, *, start: str | None = None, **asked: Any) -> Any:
        """Return the reply to a request that is not about a cell."""
        return self._ask(self._process(start), {"do": do, **asked})

    def close(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            _reap(process)
        self._processes.clear()
        self._defined.clear()

    def _any(self) -> subprocess.Popen[str]:
        return next(iter(self._processes.values()), None) or self._process(None)

    def _process(self, start: str | None) -> subprocess.Popen[str]:
        if start not in self._processes:
            command = [self._python, "-m", "bench.peers", self.name, "--serve"]
            command += ["--data", self._data.kind, "--rows", str(len(self._data.vectors))]
            command += [] if start is None else ["--start", start]
            command += [] if self._folder is None else ["--folder", str(self._folder)]
            log = CACHE / "logs" / f"{self.name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as errors:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    cwd=ROOT,
                    env={**os.environ, **ONE_THREAD},
                )
            self._processes[start] = process
            # A database of a million rows takes its time to build.
            try:
                self.ready = self._receive(process, patience=None)
            except BaseException:
                # Nobody waits for it any more, and a build would go on for minutes.
                if start in self._processes:
                    self._forget(process)
                raise
            self.version = self.ready["version"] or self.version
        return self._processes[start]

    def _ask(self, process: subprocess.Popen[str], request: dict[str, Any]) -> Any:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            self._forget(process)
            raise PeerError(self.name, self._stopped()) from error
        return self._receive(process, _PATIENCE_SECONDS)

    def _receive(self, process: subprocess.Popen[str], patience: float | None) -> Any:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], patience)[0]:
            self._forget(process)
            raise PeerError(self.name, f"no answer within {patience:.0f} s")
        line = process.stdout.readline()
        if not line:
            self._forget(process)
            raise PeerError(self.name, self._stopped())
        reply = json.loads(line)
        if isinstance(reply, dict) and "cannot" in reply:
            raise CannotError(reply["cannot"])
        if isinstance(reply, dict) and "error" in reply:
            raise PeerError(self.name, reply["error"])
        return reply

    def _forget(self, process: subprocess.Popen[str]) -> None:
        """Let the next request start another one."""
        process.kill()
        _reap(process)
        start = next(s for s, p in self._processes.items() if p is process)
        del self._processes[start]
        self._defined = {d for d in self._defined if d[0] != start}

    def _stopped(self) -> str:
        log = CACHE / "logs" / f"{self.name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return f"stopped: {lines[-1][:200] if lines else 'without a message'} (see {log})"


def _reap(process: subprocess.Popen[str]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
