"""Key frames of clips."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="the extra `video` is not installed")

from hybridq.errors import DataError
from tests.udfs.models.conftest import DATA, encoded
from udfs.open_analytic.models import video

SIZE = (320, 240)


def clip(shots, *, seconds=1.5, kind="mp4", rate=10, shown_turned=0):
    """Return a clip that shows each picture for some seconds, turned counterclockwise."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.bit_rate = 4_000_000
        if shown_turned:
            stream.set_display_rotation(shown_turned)
        for shot in shots:
            frame = np.asarray(shot.resize(SIZE))
            for _ in range(int(seconds * rate)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shots(photo):
    return [photo(name) for name in ("astronaut.jpg", "cat.jpg", "coffee.jpg")]


@pytest.mark.parametrize("kind", ["mp4", "matroska", "avi"])
def test_a_frame_for_each_shot(shots, kind):
    (frames,) = video.KeyFrames()([clip(shots, kind=kind)])
    assert [frame.facts["seconds"] for frame in frames] == pytest.approx([0, 1.5, 3.0], abs=0.55)
    for frame, shot in zip(frames, shots, strict=True):
        assert frame.picture.pixels().shape == (240, 320, 3)
        off = frame.picture.pixels().astype(int) - np.asarray(shot.resize(SIZE)).astype(int)
        assert np.abs(off).mean() < 12


def test_a_shot_that_comes_back_is_a_new_one(shots):
    (frames,) = video.KeyFrames()([clip([shots[0], shots[1], shots[0]])])
    assert len(frames) == 3


def test_one_shot_is_one_frame(shots):
    (frames,) = video.KeyFrames()([clip(shots[:1], seconds=6)])
    assert len(frames) == 1


@pytest.mark.parametrize("turned", [-90, 90, 180])
def test_a_clip_of_a_turned_camera_is_upright(shots, turned):
    stored = shots[1].rotate(-turned, expand=True)
    (frames,) = video.KeyFrames()([clip([stored], shown_turned=turned)])
    stored_wide = np.asarray(stored.resize(SIZE))
    expected = np.rot90(stored_wide, turned // 90).astype(int)
    found = frames[0].picture.pixels()
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 12


def test_limit_change_and_every(shots):
    data = clip(shots)
    assert len(video.KeyFrames(limit=2)([data])[0]) == 2
    assert len(video.KeyFrames(change=0.0, every=0.5)([data])[0]) == 9
    assert len(video.KeyFrames(change=1.01)([data])[0]) == 1


def test_a_picture_is_a_clip_of_one_frame():
    (frames,) = video.KeyFrames()([(DATA / "cat.jpg").read_bytes()])
    assert len(frames) == 1


def test_a_cut_clip_gives_what_is_there(shots):
    data = clip(shots, kind="matroska")
    (frames,) = video.KeyFrames()([data[: len(data) // 2]])
    assert 1 <= len(frames) <= 2


@pytest.mark.parametrize("data", [b"", b"not a clip", bytes(1000)])
def test_bad_clips_are_errors_of_their_rows(shots, data):
    bad, good = video.KeyFrames()([data, clip(shots[:1])])
    assert isinstance(bad, DataError)
    assert "not a clip in a known format" in str(bad)
    assert len(good) == 1


def test_sound_alone_is_no_clip():
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000, np.float32), 8000, format="WAV")
    (error,) = video.KeyFrames()([buffer.getvalue()])
    assert isinstance(error, DataError)
    assert str(error) == "the clip has no pictures, only sound"


def test_an_empty_picture_file_is_an_error():
    (error,) = video.KeyFrames()([encoded(Image.new("RGB", (10, 10)))[:30]])
    assert isinstance(error, DataError)
