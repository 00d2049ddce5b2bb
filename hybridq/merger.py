"""Merges parts of indexes, in the background: readers and writers go on.

    cut       the snapshot and the transactions it contains, at one moment
    merge     the live rows of some parts, into memory or into a file
    publish   one DuckDB transaction: segments, their dead rows at the cut, the log without the
              transactions of the cut; then the snapshot, with what was deleted since the cut

A merge into a file takes all parts in memory, so that the log can be trimmed: what it said is in
the segments. If the process ends before the publication, the next open finds the old segments and
the whole log.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import duckdb
import numpy as np
import numpy.typing as npt

from hybridq.errors import DamagedError, Error
from hybridq.index import upkeep
from hybridq.index.build import write_built
from hybridq.index.delta import flat_generation, generation_for
from hybridq.index.generation import Generation
from hybridq.index.ivf import Int64s, Part, Snapshot, Uint64s
from hybridq.index.maintain import fill_hashes
from hybridq.index.merge import Merge, gather
from hybridq.index.rows import in_memory
from hybridq.index.state import IndexState, LastMerge
from hybridq.index.stored import open_part, write_part
from hybridq.index.upkeep import Job
from hybridq.progress import Cancellable, NoProgress
from hybridq.segments import Store, in_order, segment_rows
from hybridq.storage import manifest

_SCRATCH_BYTES = 1 << 28
MEMORY_BYTES = 1 << 30

_QUIET_SECONDS = 0.25
_LOOK_ROWS = 1_024
_LOOK_PARTS = 4
"""So many keys, or parts, are written before an index is looked at for what is to be merged."""

_LOOK_AGAIN_ROWS = 8_192
"""So many while the thread waits for the writing to end, after which it looks in any case."""


class Owner(Protocol):
    """The instance whose indexes are merged."""

    @property
    def store(self) -> Store:
        """Where they are."""

    def states(self) -> list[IndexState]:
        """Return the indexes that are open."""

    def notice(self, message: str) -> None:
        """Say what the user should know."""

    def found_damage(self, error: Error) -> None:
        """Stop using indexes with damaged files."""

    def rebuild_damaged(self, state: IndexState) -> None:
        """Build a damaged index anew."""


class Merger:
    """Runs the merges of one database, and reads through what is not verified yet.

    A database that is open read-only is only read.
    """

    def __init__(self, owner: Owner, *, read_only: bool) -> None:
        self.memory_bytes = MEMORY_BYTES
        self.enabled = True
        self._owner = owner
        self._read_only = read_only
        self._progress = Cancellable(NoProgress())
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again = False
        self._awake = threading.Event()
        self._closing = False

    # -- in the background ------------------------------------------------------

    def wake(self) -> None:
        """Have all that is due merged by a thread, which ends when nothing is."""
        if not self.enabled or self._closing:
            return
        with self._lock:
            self._again = True
            self._awake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hybridq-merge", daemon=True)
                self._thread.start()

    def changed(self, state: IndexState) -> None:
        """Have a look at an index that was written, unless that was lately and little since."""
        snapshot, logged = state.snapshot, state.logged_rows
        rows, parts = logged - state.looked_at[0], len(snapshot.parts) - state.looked_at[1]
        if self._thread is None:
            due = rows >= _LOOK_ROWS or parts >= _LOOK_PARTS
        else:
            due = rows >= _LOOK_AGAIN_ROWS
        if due or self._presses(state, snapshot):
            state.looked_at = logged, len(snapshot.parts)
            self.wake()

    def _presses(self, state: IndexState, snapshot: Snapshot) -> bool:
        if state.busy or state.retry_rows > snapshot.delta_rows:
            return False  # it is looked at when that merge is done, or later
        logged, memory = state.logged_rows, self.memory_bytes
        return upkeep.pressing(snapshot, logged_rows=logged, memory_bytes=memory) is not None

    def close(self) -> None:
        """Cancel what is under way, and begin nothing else."""
        self._closing = True
        self._progress.cancel()
        self._awake.set()
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is under way."""
        while True:
            with self._lock:
                thread = self._thread
            if thread is None or thread is threading.current_thread():
                return
            thread.join()

    def _run(self) -> None:
        try:
            while self._more():
                for state in self._owner.states():
                    self._upkeep(state)
                self._settle()
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _settle(self) -> None:
        """Once nobody writes, merge what waits in several parts: it is searched faster in one."""
        states = self._owner.states()
        while any(len(upkeep.split(s.snapshot)[1]) > 1 for s in states):
            seen = [s.version for s in states]
            self._awake.clear()
            if self._again or self._awake.wait(_QUIET_SECONDS):
                return
            if seen == [s.version for s in states]:
                for state in states:
                    self._upkeep(state, settle=True)
                return

    def _more(self) -> bool:
        with self._lock:
            more, self._again = self._again and not self._closing, False
            if not more:
                self._thread = None
            return more

    def _upkeep(self, state: IndexState, *, settle: bool = False) -> None:
        """Do what is due for one index; a failure is told, and tried again when more is due.

        To `settle`, merge its parts in memory into one.
        """
        try:
            self._verify(state)
            if state.damage is not None and not self._read_only:
                self._owner.rebuild_damaged(state)
                return
            if settle and not self._closing and not self._read_only:
                self.run(state, settle=True)
            while not self._closing and not self._read_only and self.run(state):
                pass
        except DamagedError as error:
            self._owner.found_damage(error)
        except (Error, duckdb.Error, MemoryError) as error:
            if self._closing:
                return
            message = error.message if isinstance(error, Error) else repr(error)
            state.retry_rows = 2 * max(1, state.snapshot.delta_rows)
            self._owner.notice(f'index "{state.name}" could not be merged: {message}')

    def _verify(self, state: IndexState) -> None:
        """Read the vectors of mapped segments through; from then on answers do not check them."""
        for part in state.snapshot.parts:
            unverified = part.unverified
            if unverified is None or unverified.is_damaged:
                continue
            unverified.check_all(self._progress)
            with self._owner.store.lock:
                snapshot = state.snapshot
                parts = [
                    replace(p, unverified=None) if p.uid == part.uid else p for p in snapshot.parts
                ]
                state.snapshot = replace(snapshot, parts=tuple(parts))

    # -- one merge ----------------------------------------------------------------

    def run(self, state: IndexState, *, whole: bool = False, settle: bool = False) -> bool:
        """Do one merge that is due; tell whether there was one.

        If `whole`, that is of all parts; to `settle`, of all parts in memory.
        """
        if not whole and state.retry_rows > state.snapshot.delta_rows:
            return False
        with state.merging:
            with self._owner.store.lock:
                if state not in self._owner.states():
                    return False  # dropped, or built anew
                cut, published = state.snapshot, tuple(state.published)
                logged = state.logged_rows
                if whole:
                    job = upkeep.whole(cut, self.memory_bytes)
                elif settle:
                    job = upkeep.settled(cut)
                else:
                    job = upkeep.next_job(cut, logged_rows=logged, memory_bytes=self.memory_bytes)
                if job is None:
                    return False
                state.busy = frozenset(p.uid for p in job.parts)
            started = time.perf_counter()
            try:
                if job.to_file:
                    self._to_file(state, job, cut, published, logged)
                else:
                    self._in_memory(state, job, cut)
            finally:
                state.busy = frozenset()
            state.retry_rows = 0
            state.looked_at = state.logged_rows, len(state.snapshot.parts)
            state.last_merge = LastMerge(
                ended=time.time(),
                seconds=time.perf_counter() - started,
                rows=sum(map(upkeep.live, job.parts)),
                what=job.why,
            )
        return True

    def _in_memory(self, state: IndexState, job: Job, cut: Snapshot) -> None:
        rows = sum(map(upkeep.live, job.parts))
        generation = generation_for(cut.spec, rows, cut.generation)
        merge = Merge(cut.spec, job.parts, generation, self._progress)
        part = merge.part()
        with self._owner.store.lock:
            state.snapshot = _replaced(state.snapshot, merge, part, cut.generation)

    def _to_file(
        self,
        state: IndexState,
        job: Job,
        cut: Snapshot,
        published: Sequence[uuid.UUID],
        logged: int,
    ) -> None:
        written = self._write(job, cut) if job.parts else None
        names = [p.segment for p in job.parts if p.segment is not None]
        inputs = {p.uid for p in job.parts}
        kept = [p for p in cut.parts if p.uid not in inputs]
        fresh = [written[1]] if written is not None else []
        try:
            with self._owner.store.transaction() as cursor:
                rows = segment_rows([*kept, *fresh])
                manifest.put_merge(cursor, state.name, rows, published)
                if job.retrain:
                    manifest.forget_ladder(cursor, state.name)
                with self._owner.store.lock:
                    # Between this COMMIT and the assignments below nothing can fail but memory.
                    snapshot = state.snapshot
                    if written is not None:
                        snapshot = _replaced(snapshot, *written)
                    cursor.execute("COMMIT")
                    state.snapshot = snapshot
                    state.published = state.published[len(published) :]
                    state.logged_rows -= logged
        except BaseException:
            self._owner.store.remove([p.segment for p in fresh if p.segment is not None])
            raise
        self._owner.store.remove(names)

    def _write(self, job: Job, cut: Snapshot) -> tuple[Merge, Part, Generation]:
        """Write the rows of a job as a segment; return where they went."""
        spec, files = cut.spec, self._owner.store.files
        path = self._owner.store.new_path(spec)
        with self._owner.store.duck.cursor() as cursor:
            for part in job.parts:
                fill_hashes(cursor, part)
        try:
            if job.retrain:
                merge = Merge(spec, job.parts, flat_generation(spec), self._progress)
                rows = gather(spec, merge, self._allocate)
                order = write_built(rows, files, path, self._progress)
                merge.reorder(order)
            else:
                merge = Merge(spec, job.parts, cut.generation, self._progress)
                write_part(files, path, merge.content())
            part, generation = open_part(spec, files, path)
        except BaseException:
            self._owner.store.remove([path.name])
            raise
        part = replace(part, unverified=None)  # as we just wrote it
        if not job.retrain:
            # The stopping rule may have been calibrated since the generation was written.
            generation = cut.generation
            part = replace(part, ladder=generation.ladder)
        return merge, part, generation

    def _allocate(self, length: int) -> npt.NDArray[np.uint8]:
        if length > _SCRATCH_BYTES:
            return self._owner.store.files.scratch(self._owner.store.directory, length)
        return in_memory(length)


def _replaced(snapshot: Snapshot, merge: Merge, part: Part, generation: Generation) -> Snapshot:
    """Return the snapshot with a merged part in the place of those it was made of."""
    now = {p.uid: p for p in snapshot.parts}
    for i, old in enumerate(merge.parts):
        new = now.get(old.uid)
        # A part that is not there any more has gone into another one, or lost all its rows.
        gone = old.live() if new is None else _died(old, new)
        if len(gone):
            part = part.without(merge.locate(i, gone))
    inputs = {p.uid for p in merge.parts}
    places = [i for i, p in enumerate(snapshot.parts) if p.uid in inputs]
    parts = [p for p in snapshot.parts if p.uid not in inputs]
    parts.insert(places[0] if places else len(parts), part)
    return replace(
        snapshot, parts=tuple(in_order(parts)), generation=generation, layout=snapshot.layout + 1
    )


def _died(old: Part, new: Part) -> Int64s:
    words: Uint64s = old.alive & ~new.alive
    bits = np.unpackbits(words.view(np.uint8), count=old.rows, bitorder="little")
    return np.flatnonzero(bits)
