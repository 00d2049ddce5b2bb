"""Searches beside a writer: rows are inserted in batches, and the oldest of them deleted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.cells import Cell
from bench.peers.base import CannotError, Peer, Setting

_BATCH = 200
_KEPT = 5
_NOISE = 0.02


def writes(
    peer: Peer, k: int, setting: Setting, seconds: float, rates: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Return, for each rate, rows written per second and the milliseconds of searches beside.

    The writer writes so many rows a second, or as fast as it can where the rate is None. Inserted
    rows lie near others; at the end all of them are deleted.
    """
    if "writes" not in peer.can:
        raise CannotError("no writes")
    cell, queries = Cell("all"), list(range(len(peer.data.queries)))
    ask = peer.ask(cell, k, queries, setting)
    found: list[dict[str, Any]] = []
    for rate in rates:
        alone = _searches(ask, queries, seconds)
        writer = _Writer(peer, rate)
        thread = threading.Thread(target=writer.run)
        started = time.perf_counter()
        thread.start()
        beside = _searches(ask, queries, seconds)
        taken = time.perf_counter() - started
        written = writer.written
        writer.stop = True
        thread.join()
        if writer.failed is not None:
            raise writer.failed
        found.append(
            {
                "rate": rate,
                "rows_per_second": written / taken,
                "short": sum(len(peer.ids(ask(q))) < k for q in queries[:50]),
                "alone": _percentiles(alone),
                "beside": _percentiles(beside),
            }
        )
    return found


class _Writer:
    def __init__(self, peer: Peer, rate: float | None) -> None:
        self.stop = False
        self.written = 0
        self.failed: Exception | None = None
        self._peer, self._rate = peer, rate

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - told to whoever started the thread
            self.failed = error

    def _run(self) -> None:
        data, generator = self._peer.data, np.random.default_rng(23)
        spread = _NOISE * float(np.std(np.asarray(data.vectors[:1_000])))
        first, started, batches = len(data.vectors), time.perf_counter(), 0
        kept: list[list[int]] = []
        while not self.stop:
            chosen = generator.integers(0, len(data.vectors), _BATCH)
            columns = {n: data.attributes[n][chosen] for n in ("id", *data.filters)}
            columns["id"] = np.arange(first, first + _BATCH, dtype=np.int32)
            noise = generator.normal(0, spread, (_BATCH, data.dim))
            self._peer.insert(columns, (data.vectors[chosen] + noise).astype(np.float32))
            kept.append(columns["id"].tolist())
            first += _BATCH
            batches += 1
            if len(kept) > _KEPT:
                gone = kept.pop(0)
                self._peer.delete(gone)
            self.written += _BATCH
            while self._rate is not None and not self.stop:
                early = started + batches * _BATCH / self._rate - time.perf_counter()
                if early <= 0:
                    break
                time.sleep(min(early, 0.05))
        for gone in kept:
            self._peer.delete(gone)


def _searches(ask: Any, queries: list[int], seconds: float) -> list[float]:
    for query in queries[:10]:
        ask(query)
    found: list[float] = []
    end, at = time.perf_counter() + seconds, 0
    while (before := time.perf_counter()) < end:
        ask(queries[at % len(queries)])
        found.append(time.perf_counter() - before)
        at += 1
    return found


def _percentiles(seconds: list[float]) -> dict[str, float]:
    milliseconds = np.array(seconds) * 1e3
    return {f"p{p}": float(np.percentile(milliseconds, p)) for p in (50, 95, 99)}
