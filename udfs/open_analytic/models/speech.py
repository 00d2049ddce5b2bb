"""Where somebody speaks: Silero VAD (Silero Team, 2021–2025, v6), a net over frames of 32 ms."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.open_analytic.models import runtime
from udfs.open_analytic.models.audio import RATE
from udfs.open_analytic.values import Sound, Vector

_FRAME = 512  # samples
_CONTEXT = 64  # samples of the frame before
_CHUNK = 4096  # frames a run: bounds the memory
_STATE = (1, 1, 128)
# As published: speech starts at .5 and ends below .35 for 100 ms; what is shorter than 250 ms is
# none; 30 ms on each side belong to it.
_START, _END = 0.5, 0.35
_SHORTEST, _PAUSE, _MARGIN = 0.25 * RATE, 0.1 * RATE, int(0.03 * RATE)


class Segment(NamedTuple):
    """A stretch of speech, in samples: `end` is the first after it."""

    start: int
    end: int


class SpeechDetector:
    """Finds speech in sound of 16 kHz."""

    def __init__(self) -> None:
        self._network = runtime.network("silero_vad")

    def probabilities(self, samples: Vector) -> npt.NDArray[np.float32]:
        """Return the probability of speech of each frame of 512 samples, the last one padded."""
        frames = -(-len(samples) // _FRAME)
        sound = np.zeros(_CONTEXT + frames * _FRAME, np.float32)
        sound[_CONTEXT : _CONTEXT + len(samples)] = samples
        windows = np.lib.stride_tricks.sliding_window_view(sound, _CONTEXT + _FRAME)[::_FRAME]
        h = c = np.zeros(_STATE, np.float32)
        found = []
        for at in range(0, frames, _CHUNK):
            chunk = np.ascontiguousarray(windows[at : at + _CHUNK])
            part, h, c = self._network(input=chunk, h=h, c=c).values()
            found.append(part)
        return np.concatenate(found)

    def segments(self, samples: Vector) -> list[Segment]:
        """Return the stretches of speech, in order, apart from each other."""
        found: list[Segment] = []
        for start, end in _stretches(self.probabilities(samples)):
            start, end = max(start - _MARGIN, 0), min(end + _MARGIN, len(samples))
            if found and start <= found[-1].end:
                found[-1] = Segment(found[-1].start, end)
            else:
                found.append(Segment(start, end))
        return found


def _stretches(probabilities: npt.NDArray[np.float32]) -> Iterator[Segment]:
    start = pause = -1
    for frame, p in enumerate(probabilities.tolist()):
        at = frame * _FRAME
        if p >= _START:
            pause = -1
            if start < 0:
                start = at
        elif start >= 0 and p < _END:
            if pause < 0:
                pause = at
            if at - pause >= _PAUSE:
                if pause - start >= _SHORTEST:
                    yield Segment(start, pause)
                start = pause = -1
    end = len(probabilities) * _FRAME if pause < 0 else pause
    if start >= 0 and end - start >= _SHORTEST:
        yield Segment(start, end)


@functools.cache
def detector() -> SpeechDetector:
    """Return the detector of this process."""
    return SpeechDetector()


class Speech:
    """When somebody speaks: {"speech": [{"start", "end"}, …]}, in seconds."""

    def __init__(self) -> None:
        self._detector = detector()

    def __call__(self, sounds: Sequence[Sound]) -> list[Any]:
        """Return the facts (dict) of each sound of 16 kHz."""
        return [
            {
                "speech": [
                    {"start": round(start / RATE, 3), "end": round(end / RATE, 3)}
                    for start, end in self._detector.segments(sound.samples)
                ]
            }
            for sound in sounds
        ]
