"""Whose voice it is: the speaker encoder of Resemblyzer.

Wan, Wang, Papir & Moreno, "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018, §3:
an LSTM over mel frames of 1.6 s, whose windows over an utterance are averaged (§3.2).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.errors import DataError
from udfs.open_analytic.models import runtime, speech
from udfs.open_analytic.models.audio import RATE
from udfs.open_analytic.values import Sound, Vector

DIM = 256
_FFT, _HOP, _BANDS = 400, 160, 40  # samples, samples, mel bands: 25 ms every 10 ms
_WINDOW, _STEP = 160, 77  # frames: 1.6 s, 1.3 times a second
_LEAST_COVERED = 0.75  # of the last window
# Root mean square that speech is brought to. Resemblyzer raises what is quieter than -30 dB and
# leaves the rest; the net hears loudness: with gains of -25 to 3 dB the equal error rate of four
# speakers was .25, brought to one level it is .11.
_LOUDNESS = 10 ** (-27 / 20)
_BATCH = 64  # windows a run: bounds the memory


class VoiceEncoder:
    """Makes voiceprints of speech at 16 kHz."""

    def __init__(self) -> None:
        self._network = runtime.network("voice_encoder")

    def embed(self, samples: Vector) -> Vector:
        """Return the unit vector (256,) of speech (n,); of one speaker they are near (cosine)."""
        loudness = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
        if loudness > 0:
            samples = samples * np.float32(_LOUDNESS / loudness)
        starts = _windows(len(samples))
        length = (starts[-1] + _WINDOW) * _HOP
        mel = mel_frames(np.pad(samples, (0, max(length - len(samples), 0))))
        total = np.zeros(DIM)
        for at in range(0, len(starts), _BATCH):
            windows = np.stack([mel[s : s + _WINDOW] for s in starts[at : at + _BATCH]], 1)
            total += self._network.first(mel=windows).sum(0, dtype=np.float64)
        return runtime.unit(total)


def _windows(samples: int) -> range:
    """Return the first frame of each window of 160."""
    frames = -(-(samples + 1) // _HOP)
    starts = range(0, max(1, frames - _WINDOW + _STEP + 1), _STEP)
    covered = (samples / _HOP - starts[-1]) / _WINDOW
    return starts[:-1] if covered < _LEAST_COVERED and len(starts) > 1 else starts


def mel_frames(samples: Vector) -> npt.NDArray[np.float32]:
    """Return the mel power spectrum (frames, 40), a frame around every 160th sample.

    Slaney's scale and weights (Auditory Toolbox, 1998), as the net was trained with.
    """
    padded = np.pad(samples, _FFT // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)
    out = np.empty((len(windows), _BANDS), np.float32)
    for at in range(0, len(windows), 4096):
        spectrum = np.fft.rfft(windows[at : at + 4096] * hann, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        out[at : at + 4096] = power @ _bands()
    return out


@functools.cache
def _bands() -> npt.NDArray[np.float64]:
    """Return (201, 40): triangles between 42 points even on the mel scale, of equal area."""
    # Linear below 1 kHz (200/3 Hz a mel), then a factor of 6.4 every 27 mels.
    knee, step = 15.0, np.log(6.4) / 27
    mels = np.linspace(0.0, knee + np.log(RATE / 2 / 1000) / step, _BANDS + 2)
    points = np.where(mels < knee, mels * 200 / 3, 1000 * np.exp(step * (mels - knee)))
    hertz = np.linspace(0, RATE / 2, _FFT // 2 + 1)[:, None]
    low, middle, high = points[:-2], points[1:-1], points[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.asarray(np.minimum(rising, falling).clip(0) * 2 / (high - low))


@functools.cache
def encoder() -> VoiceEncoder:
    """Return the encoder of this process."""
    return VoiceEncoder()


class Voiceprints:
    """Voiceprints (256,) of sounds; what is not speech is cut out before."""

    dim = DIM

    def __init__(self) -> None:
        self._encoder = encoder()
        self._detector = speech.detector()

    def __call__(self, sounds: Sequence[Sound]) -> list[Any]:
        """Return the vector of each sound, or its error (DataError where nobody speaks)."""
        return [self._vector(sound) for sound in sounds]

    def _vector(self, sound: Sound) -> Vector | DataError:
        if sound.rate != RATE:
            return DataError(f"the sound has {sound.rate:,} samples a second instead of {RATE:,}")
        segments = self._detector.segments(sound.samples)
        if not segments:
            return DataError("no speech was found")
        return self._encoder.embed(np.concatenate([sound.samples[a:b] for a, b in segments]))
