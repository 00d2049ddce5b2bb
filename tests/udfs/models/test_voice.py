"""Sound: decoding, resampling, where somebody speaks, and whose voice it is."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime", reason="the extra `voice` is not installed")
soundfile = pytest.importorskip("soundfile", reason="the extra `voice` is not installed")

from hybridq.errors import DataError
from tests.udfs.models.conftest import DATA
from udfs.open_analytic.models import audio, speech, voiceprint
from udfs.open_analytic.values import Sound

CLIPS = ("allison-1", "allison-2", "june-1", "june-2")


def clip(name):
    return (DATA / f"{name}.flac").read_bytes()


def encoded(samples, rate=16_000, kind="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def voiceprints():
    return voiceprint.Voiceprints()


@pytest.fixture(scope="module")
def vectors(voiceprints):
    return dict(zip(CLIPS, voiceprints([audio.decode(clip(name)) for name in CLIPS]), strict=True))


def test_a_voice_is_nearer_to_itself_than_to_another(vectors):
    for vector in vectors.values():
        assert vector.shape == (256,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    own = [vectors["allison-1"] @ vectors["allison-2"], vectors["june-1"] @ vectors["june-2"]]
    other = [vectors[a] @ vectors[b] for a in CLIPS[:2] for b in CLIPS[2:]]
    assert min(own) > max(other) + 0.03


@pytest.mark.parametrize(
    "change",
    [
        lambda sound, rate: encoded(np.stack([sound, sound], 1), rate, "FLAC"),
        lambda sound, rate: encoded(sound, rate, "OGG"),
        lambda sound, rate: encoded(sound, rate, "MP3"),
        lambda sound, rate: encoded(sound, rate, subtype="FLOAT"),
        lambda sound, rate: encoded(sound, rate, subtype="ULAW"),
        lambda sound, rate: encoded(sound * 0.05, rate, subtype="PCM_24"),
        lambda sound, rate: encoded(np.pad(sound, (40_000, 40_000)), rate),
    ],
    ids=["stereo", "ogg", "mp3", "float", "ulaw", "quiet", "silence around"],
)
def test_a_voice_is_the_same_in_every_format(voiceprints, vectors, change):
    sound, rate = soundfile.read(io.BytesIO(clip("june-1")), dtype="float32")
    (vector,) = voiceprints([audio.decode(change(sound, rate))])
    assert vector @ vectors["june-1"] > 0.96


def test_silence_and_noise_are_no_speech(voiceprints):
    noise = np.random.default_rng(0).normal(0, 0.05, 48_000).astype(np.float32)
    tone = np.sin(np.arange(48_000) / 6).astype(np.float32)
    for samples in (np.zeros(48_000, np.float32), noise, tone, noise[:100], noise[:1]):
        (error,) = voiceprints([Sound(samples, audio.RATE)])
        assert isinstance(error, DataError)
        assert str(error) == "no speech was found"


def test_speech_is_found_where_it_is():
    sound = audio.decode(clip("allison-1")).samples
    padded = np.concatenate([np.zeros(32_000, np.float32), sound, np.zeros(32_000, np.float32)])
    segments = speech.detector().segments(padded)
    assert 28_000 < segments[0].start < 40_000
    assert 32_000 + len(sound) - 16_000 < segments[-1].end < 34_000 + len(sound)
    for one, other in pairwise(segments):
        assert one.start < one.end < other.start


def test_long_sound_is_read_in_parts(monkeypatch):
    sound = audio.decode(clip("allison-1")).samples
    whole = speech.detector().probabilities(sound)
    vector = voiceprint.encoder().embed(np.tile(sound, 3))
    monkeypatch.setattr(speech, "_CHUNK", 7)
    monkeypatch.setattr(voiceprint, "_BATCH", 2)
    np.testing.assert_allclose(speech.detector().probabilities(sound), whole, atol=1e-4)
    np.testing.assert_allclose(voiceprint.encoder().embed(np.tile(sound, 3)), vector, atol=1e-4)


def test_mel_bands_hear_their_pitch():
    # Slaney's scale: 26 of 40 bands lie above 1 kHz.
    instants = np.arange(16_000) / audio.RATE
    loudest = [
        int(
            voiceprint.mel_frames(np.sin(2 * np.pi * f * instants).astype(np.float32))
            .sum(0)
            .argmax()
        )
        for f in (100, 300, 1000, 3000, 7000)
    ]
    assert loudest == sorted(loudest)
    assert len(set(loudest)) == 5
    assert voiceprint.mel_frames(np.zeros(1600, np.float32)).shape == (11, 40)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a sound file in a known format"),
        (b"not sound", "not a sound file in a known format"),
        (encoded(np.empty(0, np.float32)), "the sound is empty"),
        (encoded(np.array([0.1, np.nan], np.float32), subtype="FLOAT"), "not numbers"),
        (encoded(np.zeros(5_000_000, np.float32), 1000, "FLAC"), "too long: 83 minutes"),
    ],
    ids=["empty", "text", "no samples", "nan", "too long"],
)
def test_bad_sound(data, message):
    with pytest.raises(DataError, match=message):
        audio.decode(data)


def test_damaged_sound():
    data = bytearray(clip("june-1"))
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    with pytest.raises(DataError, match="the sound is damaged"):
        audio.decode(bytes(data))


def test_a_cut_file_gives_what_is_there():
    whole = encoded(np.linspace(-0.5, 0.5, 16_000, dtype=np.float32), 16_000)
    sound = audio.decode(whole[: len(whole) // 2])
    assert 7_000 < len(sound.samples) < 9_000


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 12_343])
def test_resampling_keeps_a_tone(rate):
    count = rate * 21 // 2  # 10.5 s: more than a block
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(count) / rate)
    sound = audio.decode(encoded(tone.astype(np.float32), rate, subtype="FLOAT"))
    assert sound.rate == 16_000
    assert abs(len(sound.samples) - 10.5 * 16_000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(len(sound.samples)) / 16_000)
    assert np.abs(sound.samples - expected)[200:-200].max() < 1e-4


def test_resampling_leaves_out_what_16_khz_cannot_hold():
    tone = np.sin(2 * np.pi * 11_000 * np.arange(48_000) / 48_000)
    sound = audio.decode(encoded(tone.astype(np.float32), 48_000, subtype="FLOAT"))
    assert np.abs(sound.samples[200:-200]).max() < 1e-3


@given(st.integers(1, 400), st.lists(st.integers(1, 200), max_size=5))
def test_resampling_does_not_see_the_blocks(count, cuts):
    samples = np.random.default_rng(count).normal(size=count).astype(np.float32)
    blocks = np.split(samples, sorted({cut for cut in cuts if cut < count}))
    whole = np.concatenate(list(audio._resampled(iter([samples]), 44_100)))
    parts = np.concatenate(list(audio._resampled(iter(blocks), 44_100)))
    assert len(whole) == -(-count * 16_000 // 44_100)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
