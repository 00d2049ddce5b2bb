"""One engine as a process: builds its database, then answers requests on standard input.

One JSON object a line each way. What fails is answered `{"error": …}`; the process goes on.

    python -m bench.peers faiss [--data sift] [--rows 100000]     builds, and says how long it took
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from bench.cells import Cell, from_json
from bench.data import load
from bench.data.dataset import CACHE
from bench.peers.base import CannotError, Peer, resident_bytes
from bench.peers.registry import ENGINES
from bench.peers.writing import writes


class Server:
    """Carries out requests by their name."""

    def __init__(self, peer: Peer, replies: TextIO) -> None:
        self._peer = peer
        self._replies = replies
        self._cells: dict[str, Cell] = {}
        self._known: dict[str, Callable[..., Any]] = {
            "define": self._define,
            "ladders": peer.ladders,
            "answers": self._answers,
            "throughput": self._throughput,
            "explained": self._explained,
            "batch": self._batch,
            "memory": resident_bytes,
            "writes": lambda **asked: writes(peer, **asked),
        }

    def serve(self, requests: Sequence[str] | TextIO) -> None:
        for line in requests:
            request = json.loads(line)
            try:
                self.reply(self._known[request.pop("do")](**request))
            except CannotError as error:
                self.reply({"cannot": str(error)})
            except Exception as error:  # noqa: BLE001 - told to the other side
                text = str(error).splitlines()[0] if str(error) else ""
                self.reply({"error": f"{type(error).__name__}: {text}"[:300]})
        self._peer.close()

    def reply(self, content: Any) -> None:
        self._replies.write(json.dumps(content) + "\n")
        self._replies.flush()

    def _define(self, cell: dict[str, Any]) -> None:
        self._cells[cell["name"]] = from_json(cell)

    def _answers(self, cell: str, **asked: Any) -> Any:
        return asdict(self._peer.answers(self._cells[cell], **asked))

    def _throughput(self, cell: str, **asked: Any) -> float:
        return self._peer.throughput(self._cells[cell], **asked)

    def _explained(self, cell: str, **asked: Any) -> Any:
        explain = getattr(self._peer, "explained", None)
        if explain is None:
            raise CannotError("EXPLAIN")
        return explain(self._cells[cell], **asked)

    def _batch(self, queries: list[int], k: int, setting: dict[str, Any]) -> Any:
        if "batch" not in self._peer.can:
            raise CannotError("a batch of queries")
        started = time.perf_counter()
        ids = self._peer.batch(queries, k, setting)
        return {"seconds": time.perf_counter() - started, "ids": ids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=sorted(ENGINES))
    parser.add_argument("--data", default="sift")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--serve", action="store_true", help="answer requests on standard input")
    parser.add_argument("--start", help="what the peer is started with")
    parser.add_argument("--folder", type=Path, help="for the database, instead of the cache")
    arguments = parser.parse_args()
    # What libraries print must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    data = load(arguments.data, arguments.rows)
    engine = ENGINES[arguments.peer]
    folder = arguments.folder or CACHE / engine.family / data.name
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        peer = engine(data, folder, arguments.start)
    except Exception as error:
        if not arguments.serve:
            raise
        text = str(error).splitlines()[0] if str(error) else ""
        replies.write(json.dumps({"error": f"{type(error).__name__}: {text}"[:300]}) + "\n")
        sys.exit(1)
    server = Server(peer, replies)
    report = folder / "build.json"
    build = json.loads(report.read_text()) if report.exists() else None
    server.reply(
        {
            "ready_seconds": round(time.perf_counter() - started, 3),
            "build": getattr(peer, "build_report", build),
            "version": peer.version,
        }
    )
    if arguments.serve:
        server.serve(sys.stdin)


if __name__ == "__main__":
    main()
