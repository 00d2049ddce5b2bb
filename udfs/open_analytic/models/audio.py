"""From the bytes of a sound file to samples: one channel at 16 kHz. Imports soundfile."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Sequence
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from hybridq.errors import DataError
from udfs.open_analytic.values import Sound, Vector

RATE = 16_000
"""Hz: what the models of speech were trained at."""

MAX_SECONDS = 3600
_BLOCK_SECONDS = 10
_LOBES = 16  # of the sinc, on each side
_FEW_PHASES = 512  # up to which outputs of one phase are computed together
_GATHERED = 8192  # outputs at once, beyond
_BETA = 8.6  # of the Kaiser window: 90 dB


def decode(data: bytes) -> Sound:
    """Return a sound file as one channel (the mean of its channels) at 16 kHz.

    WAV (PCM, float, A-law, µ-law), FLAC, Ogg, MP3, AIFF and what else libsndfile reads. Raises
    DataError saying what is wrong with `data`.
    """
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        raise DataError(f"not a sound file in a known format: {error.error_string}") from error
    try:
        with file:
            if file.frames > MAX_SECONDS * file.samplerate:
                raise DataError(
                    f"too long: {file.frames / file.samplerate / 60:,.0f} minutes, the limit is "
                    f"{MAX_SECONDS // 60}"
                )
            parts = list(_resampled(_blocks(file), file.samplerate))
    except soundfile.LibsndfileError as error:
        raise DataError(f"the sound is damaged: {error.error_string}") from error
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not len(samples):
        raise DataError("the sound is empty")
    if not np.isfinite(samples).all():
        raise DataError("the sound has samples that are not numbers")
    return Sound(samples, RATE)


class Sounds:
    """Decodes sound files: bytes in, sounds out."""

    def __call__(self, files: Sequence[bytes]) -> list[Any]:
        """Return the sound of each file, or its error."""
        return [self._sound(data) for data in files]

    def _sound(self, data: bytes) -> Sound | DataError:
        try:
            return decode(data)
        except DataError as error:
            return error


def _blocks(file: Any) -> Iterator[Vector]:
    frames = _BLOCK_SECONDS * file.samplerate
    left = MAX_SECONDS * file.samplerate  # of a stream that does not say how long it is
    while left > 0:
        block = file.read(min(frames, left), dtype="float32", always_2d=True)
        if not len(block):
            return
        left -= len(block)
        yield block.mean(1, dtype=np.float32)


def _resampled(blocks: Iterator[Vector], rate: int) -> Iterator[Vector]:
    """Yield the blocks of one sound at 16 kHz instead of `rate`.

    Output sample n is the input at n · rate / 16,000: a windowed sinc around it, one filter for
    each of the fractions there are (Smith, "Digital Audio Resampling", CCRMA 2002).
    """
    if rate == RATE:
        yield from blocks
        return
    divisor = gcd(rate, RATE)
    up, down = RATE // divisor, rate // divisor
    filters = _filters(up, down)
    taps = filters.shape[1]
    before = taps // 2 - 1  # samples of a filter left of the instant
    kept = np.zeros(before, np.float32)  # input from sample `first` on
    first, made, ended = -before, 0, False
    while not ended:
        block = next(blocks, None)
        ended = block is None
        end = first + len(kept)
        kept = np.concatenate([kept, np.zeros(taps, np.float32) if block is None else block])
        # All instants n · down / up before the end whose filter lies within what is there.
        reach = end if block is None else first + len(kept) - (taps - before)
        last = max(-(-reach * up // down), made)
        if last > made:
            whole, phase = np.divmod(np.arange(made, last) * down, up)
            windows = np.lib.stride_tricks.sliding_window_view(kept, taps)
            yield _dot(windows, whole - before - first, filters, phase)
            made = last
            spent = min(max(last * down // up - before - first, 0), len(kept))
            kept, first = kept[spent:], first + spent


def _dot(
    windows: npt.NDArray[np.float32],
    starts: npt.NDArray[np.int64],
    filters: npt.NDArray[np.float32],
    phases: npt.NDArray[np.int64],
) -> Vector:
    out = np.empty(len(starts), np.float32)
    if len(filters) <= _FEW_PHASES:
        for phase in np.unique(phases):
            chosen = phases == phase
            out[chosen] = windows[starts[chosen]] @ filters[phase]
        return out
    for at in range(0, len(starts), _GATHERED):
        part = slice(at, at + _GATHERED)
        out[part] = np.einsum("nt,nt->n", windows[starts[part]], filters[phases[part]])
    return out


@functools.lru_cache(maxsize=32)
def _filters(up: int, down: int) -> npt.NDArray[np.float32]:
    """Return (up, taps): the filter of each fraction of a sample."""
    cutoff = min(1.0, up / down) * 0.97  # of the input's band, with room for the slope
    half = int(np.ceil(_LOBES / cutoff))
    places = np.arange(-half + 1, half + 1)[None, :] - (np.arange(up) / up)[:, None]
    window = np.i0(_BETA * np.sqrt((1 - (places / half) ** 2).clip(0))) / np.i0(_BETA)
    filters = np.sinc(places * cutoff) * window
    filters /= filters.sum(1, keepdims=True)
    return np.asarray(filters.astype(np.float32))
