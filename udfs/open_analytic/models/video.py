"""Key frames of clips: a frame for each shot. Imports PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from hybridq.errors import DataError
from udfs.open_analytic.models import geometry
from udfs.open_analytic.values import Picture, Pixels

_BINS = 8  # of each colour channel
_THUMB = 64  # pixels a side that shots are told apart by
_LONGEST = 1024  # pixels of a frame that is kept: all frames of a clip are in memory at once
_MAX_PIXELS = 89_478_485  # a frame: Pillow's limit for pictures


@dataclass(slots=True)
class Frame:
    """A frame of a clip; `facts` is what is known of it, at first its time: {"seconds": 1.5}."""

    picture: Picture
    facts: dict[str, Any]


class KeyFrames:
    """Key frames: bytes of clips in, pictures with their times out.

    A frame is kept when its colours differ from those of the last one kept by `change` (half the
    sum of the differences of the shares of 512 colours, 0 … 1): the first of each shot, and more of
    a long pan. Frames are looked at every `every` seconds; `limit` is the most a clip may give.
    """

    def __init__(self, *, change: float = 0.3, every: float = 0.5, limit: int = 100) -> None:
        self._change = change
        self._every = every
        self._limit = limit

    def __call__(self, clips: Sequence[bytes]) -> list[Any]:
        """Return the frames (list[Frame]) of each clip, or its error."""
        return [self._frames(clip) for clip in clips]

    def _frames(self, clip: bytes) -> list[Frame] | DataError:
        kept: list[Frame] = []
        last = None
        try:
            for seconds, pixels in _sampled(clip, self._every):
                colours = _histogram(pixels)
                if last is None or abs(colours - last).sum() / 2 >= self._change:
                    kept.append(Frame(Picture(pixels=pixels), {"seconds": round(seconds, 3)}))
                    last = colours
                    if len(kept) == self._limit:
                        break
        except (av.error.FFmpegError, EOFError) as error:
            # Of a clip that is cut short, what came before the cut is as good as ever.
            if not kept:
                return DataError(f"not a clip in a known format: {error}")
        except DataError as error:
            return error
        return kept if kept else DataError("the clip has no frames")


def _sampled(clip: bytes, every: float) -> Iterator[tuple[float, Pixels]]:
    """Yield (seconds, RGB frame) of the first video stream, one for each `every` seconds."""
    with av.open(io.BytesIO(clip), mode="r", metadata_errors="replace") as container:
        if not container.streams.video:
            raise DataError("the clip has no pictures, only sound")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # clips are decoded side by side
        due, origin = 0.0, None
        for number, frame in enumerate(container.decode(stream)):
            if frame.width * frame.height > _MAX_PIXELS:
                raise DataError(f"{frame.width:,} x {frame.height:,} pixels are too many")
            # Without time stamps, frames are taken to be even.
            rate = float(stream.average_rate or 25)
            time = number / rate if frame.pts is None else float(frame.time)
            origin = time if origin is None else origin
            if time - origin >= due:
                due = time - origin + every
                yield time - origin, _reduced(frame)


def _reduced(frame: Any) -> Pixels:
    longest = max(frame.width, frame.height)
    shrink = min(_LONGEST / longest, 1.0)
    width, height = (max(int(length * shrink), 1) for length in (frame.width, frame.height))
    pixels: Pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    turns = round(float(getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _histogram(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the shares of 8 x 8 x 8 colours."""
    small = geometry.resized(pixels, _THUMB, _THUMB).reshape(-1, 3).astype(np.int64)
    cells = (small * _BINS // 256) @ np.array([_BINS * _BINS, _BINS, 1])
    return np.bincount(cells, minlength=_BINS**3) / len(cells)
