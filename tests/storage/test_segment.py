import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from hybridq.errors import InternalError, OperationalError
from hybridq.storage import segment
from hybridq.storage.files import OsFiles
from hybridq.storage.segment import ALIGNMENT, Chunks, open_segment, write_segment

FAST = settings(
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def small(tmp_path):
    """A segment with arrays of several types, one empty, one of odd length."""
    path = tmp_path / "small.segment"
    arrays = {
        "vectors": np.arange(30, dtype=np.float32).reshape(10, 3),
        "keys": np.arange(-7, 7).reshape(2, 7),
        "none": np.empty((0, 4), np.int64),
        "text": np.frombuffer(b"blob", np.uint8),
    }
    write_segment(OsFiles(), path, {"kind": "test", "lists": [1, 2]}, arrays)
    return path, arrays


def check(opened, metadata, arrays):
    assert opened.metadata == metadata
    assert list(opened.arrays) == list(arrays)
    for name, array in arrays.items():
        found = opened.arrays[name]
        np.testing.assert_array_equal(found, array, strict=True)
        assert not found.flags.writeable
        assert found.flags.c_contiguous
        assert found.flags.aligned
        assert found.ctypes.data % ALIGNMENT == 0 or found.size == 0


@FAST
@given(st.data())
def test_round_trip(tmp_path, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shapes = st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple)
    arrays = {}
    for name in data.draw(st.lists(st.text(max_size=5), max_size=4, unique=True)):
        dtype = data.draw(st.sampled_from(DTYPES))
        arrays[name] = rng.integers(0, 100, data.draw(shapes)).astype(dtype)
    value = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(-1e9, 1e9), st.text())
    metadata = data.draw(st.dictionaries(st.text(), st.one_of(value, st.lists(value))))
    path = tmp_path / "a.segment"
    write_segment(OsFiles(), path, metadata, arrays)
    opened = open_segment(OsFiles(), path)
    check(opened, metadata, arrays)
    assert opened.path == path
    assert opened.size_bytes == path.stat().st_size
    check(open_segment(OsFiles(), path, trusted=("a", "b", "vectors")), metadata, arrays)


def test_arrays_in_chunks(tmp_path):
    array = np.arange(1000, dtype=np.float32).reshape(100, 10)
    cuts = [0, 1, 1, 40, 100]
    parts = (array[a:b] for a, b in itertools.pairwise(cuts))
    path = tmp_path / "a.segment"
    chunks = Chunks(dtype=np.float32, shape=(100, 10), parts=parts)
    write_segment(OsFiles(), path, {}, {"first": np.arange(3), "big": chunks})
    check(open_segment(OsFiles(), path), {}, {"first": np.arange(3), "big": array})


def test_large_arrays_are_written_and_verified_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "_CHUNK_BYTES", 100)
    path, arrays = small(tmp_path)
    check(open_segment(OsFiles(), path), {"kind": "test", "lists": [1, 2]}, arrays)


def test_arrays_of_other_layouts_are_written_in_order(tmp_path):
    array = np.arange(24).reshape(4, 6)
    path = tmp_path / "a.segment"
    sources = {"f": np.asfortranarray(array), "strided": array[::2, ::3], "swapped": array.T}
    write_segment(OsFiles(), path, {}, {**sources, "big": array.astype(">i4")})
    opened = open_segment(OsFiles(), path)
    for name, source in sources.items():
        np.testing.assert_array_equal(opened.arrays[name], source, strict=True)
    np.testing.assert_array_equal(opened.arrays["big"], array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([object()])])
def test_other_types_are_refused(tmp_path, array):
    with pytest.raises(InternalError, match="cannot hold"):
        write_segment(OsFiles(), tmp_path / "a", {}, {"a": array})
    assert OsFiles().list(tmp_path) == []


@pytest.mark.parametrize("rows", [0, 9, 11])
def test_chunks_of_another_length_are_refused(tmp_path, rows):
    chunks = Chunks(dtype="f4", shape=(10, 2), parts=[np.zeros((rows, 2), np.float32)])
    with pytest.raises(InternalError, match='array "v"'):
        write_segment(OsFiles(), tmp_path / "a", {}, {"v": chunks})
    assert OsFiles().list(tmp_path) == []


def test_metadata_is_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_segment(OsFiles(), tmp_path / "a", {"radius": float("inf")}, {})
    assert OsFiles().list(tmp_path) == []


def test_every_flipped_byte_is_found(tmp_path):
    path, _ = small(tmp_path)
    good = path.read_bytes()
    for offset in range(len(good)):
        for flip in (0x01, 0x80, 0xFF):
            bad = bytearray(good)
            bad[offset] ^= flip
            path.write_bytes(bad)
            with pytest.raises(OperationalError, match=r"small\.segment"):
                open_segment(OsFiles(), path)


def test_every_truncation_is_found(tmp_path):
    path, _ = small(tmp_path)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(OperationalError, match=r"small\.segment"):
            open_segment(OsFiles(), path, trusted=("a", "b", "vectors"))
    path.write_bytes(good + b"\0")
    with pytest.raises(OperationalError, match="long"):
        open_segment(OsFiles(), path)


def test_damage_is_named(tmp_path):
    path, _ = small(tmp_path)
    good = path.read_bytes()
    vectors = good.index(np.arange(30, dtype=np.float32).tobytes())

    def damaged(offset, data):
        path.write_bytes(good[:offset] + data + good[offset + len(data) :])
        with pytest.raises(OperationalError) as raised:
            open_segment(OsFiles(), path)
        return str(raised.value)

    assert "does not begin as a segment" in damaged(0, b"SQLite f")
    assert "format version 2" in damaged(8, b"\2")
    assert "header" in damaged(40, b"?")
    assert 'array "vectors"' in damaged(vectors + 5, b"\7")
    path.write_bytes(good[:vectors] + b"\7" + good[vectors + 1 :])
    open_segment(OsFiles(), path, trusted=("a", "b", "vectors"))
    path.unlink()
    with pytest.raises(OperationalError, match="missing"):
        open_segment(OsFiles(), path)


def test_a_segment_outlives_its_file(tmp_path):
    path, arrays = small(tmp_path)
    opened = open_segment(OsFiles(), path)
    OsFiles().remove(path)
    check(opened, opened.metadata, arrays)


class LyingFiles(OsFiles):
    """Gives sizes as they were before the file shrank."""

    def stat(self, path):
        return super().stat(path)._replace(size_bytes=super().stat(path).size_bytes + 64)


def test_a_file_that_shrinks_while_it_is_opened(tmp_path):
    path, _ = small(tmp_path)
    with pytest.raises(OperationalError, match="length changed"):
        open_segment(LyingFiles(), path)


def test_a_crafted_header_is_refused(tmp_path, monkeypatch):
    """Checksums that match do not make a layout right."""
    path = tmp_path / "a.segment"
    original = segment._header
    for wrong, right in ((b'"<i8"', b'"<i7"'), (b"[3]", b"[9]"), (b'"crc32"', b'"crc33"')):

        def header(metadata, sections, wrong=wrong, right=right):
            return original(metadata, sections).replace(wrong, right)

        monkeypatch.setattr(segment, "_header", header)
        write_segment(OsFiles(), path, {}, {"a": np.arange(3)})
        with pytest.raises(OperationalError, match="damaged"):
            open_segment(OsFiles(), path)
