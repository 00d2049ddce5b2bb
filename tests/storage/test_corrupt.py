"""A segment with a byte that is wrong: it is found, wherever it is, and never answers."""

import json
import struct

import numpy as np
import pytest

import hybridq
from hybridq.errors import DamagedError
from hybridq.index.stored import open_part
from hybridq.progress import NoProgress
from hybridq.storage.files import OsFiles
from tests.durability import album

_PRELUDE = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database with an index of several lists, text and rows without a vector."""
    path = tmp_path_factory.mktemp("corrupt") / "album.duckdb"
    album.create(path, 1_500, nlist=16)
    with hybridq.connect(path) as con:
        spec = con.check_open().instance.index_named("photos_v").spec
    (segment,) = album.segments(path)
    return path, segment.read_bytes(), spec


def sections(data):
    """Return (name, offset, bytes without padding) of every array."""
    (length,) = struct.unpack("<Q", data[24:32])
    header = json.loads(data[_PRELUDE : _PRELUDE + length])
    out = []
    for array in header["arrays"]:
        size = int(np.prod(array["shape"])) * np.dtype(array["dtype"]).itemsize
        out.append((array["name"], int(array["offset"], 16), size))
    return out, _PRELUDE + length


def flipped(data, at, bit=0x10):
    bad = bytearray(data)
    bad[at] ^= bit
    return bytes(bad)


def found_damaged(tmp_path, spec, data):
    """Tell whether opening the segment, or reading it through, finds it damaged."""
    path = tmp_path / "photos_v-0.seg"
    path.write_bytes(data)
    try:
        part, _ = open_part(spec, OsFiles(), path)
        part.unverified.check_all(NoProgress())
    except hybridq.OperationalError as error:
        return str(path) in str(error)
    return False


def test_the_file_as_it_was_is_sound(made, tmp_path):
    _, data, spec = made
    assert not found_damaged(tmp_path, spec, data)


@pytest.mark.parametrize("start", range(7))
def test_each_byte_of_the_header(made, tmp_path, start):
    """A seventh of the bytes each time."""
    _, data, spec = made
    _, end = sections(data)
    for at in range(start, end, 7):
        assert found_damaged(tmp_path, spec, flipped(data, at)), at


def test_a_sample_of_bytes_of_every_array(made, tmp_path):
    _, data, spec = made
    arrays, _ = sections(data)
    rng = np.random.default_rng(3)
    names = {name for name, _, size in arrays if size}
    assert {"vectors", "keys", "code_codes", "code_fine", "tie", "row_hash", "zones"} <= names
    for name, offset, size in arrays:
        if size == 0:
            continue
        chosen = {0, size - 1, *rng.integers(0, size, 6).tolist()}
        for at in sorted(chosen):
            assert found_damaged(tmp_path, spec, flipped(data, offset + at)), (name, at)


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_vector_that_is_damaged_is_in_no_answer(made, tmp_path, where):
    """Opened, the index is used; it reads its rows through, finds the one, and is rebuilt."""
    path, data, _ = made
    copy = album.copy_of(path, tmp_path)
    arrays, _ = sections(data)
    ((offset, size),) = [(o, s) for n, o, s in arrays if n == "vectors"]
    (segment,) = album.segments(copy)
    segment.write_bytes(flipped(data, offset + int(where * (size - 1))))
    with hybridq.connect(copy) as con:
        album.check(con, indexed=None)
        con.check_open().instance.merger.wait()
        assert len(con.notices) == 1
        assert "damaged" in con.notices[0]
        album.check(con)
    with hybridq.connect(copy) as con:
        assert con.notices == []
        album.check(con)


def test_a_damaged_vector_is_found_by_the_query_that_reads_it(made, tmp_path, monkeypatch):
    path, data, _ = made
    copy = album.copy_of(path, tmp_path)
    arrays, _ = sections(data)
    ((offset, _),) = [(o, s) for n, o, s in arrays if n == "vectors"]
    (segment,) = album.segments(copy)
    segment.write_bytes(flipped(data, offset + 5))
    monkeypatch.setattr("hybridq.merger.Merger.wake", lambda self: None)
    with hybridq.connect(copy) as con:
        instance = con.check_open().instance
        part = instance.index_named("photos_v").snapshot.parts[0]
        with pytest.raises(DamagedError):
            part.unverified.check(np.array([0]))
        part.unverified.is_damaged = False
        (key,) = part.values(0, np.array([0]))
        ((vector,),) = con.execute("SELECT v FROM photos WHERE id = ?", [key]).fetchall()
        text = "SELECT id, v <-> ? AS d FROM photos ORDER BY d LIMIT 3"
        rows = con.execute(text, [vector]).fetchall()
        assert rows[0] == (key, 0.0)
        assert len(con.notices) == 1
        assert "rebuilt" in con.notices[0]
        album.check(con, indexed=False)
        ((status,),) = con.execute("SELECT status FROM hybridq_health()").fetchall()
        assert status == "damaged"
        monkeypatch.undo()
        con.execute("INSERT INTO photos VALUES (99999, 'a', NULL)")
        instance.merger.wake()
        instance.merger.wait()
        album.check(con)


def test_a_merge_does_not_launder_damage(made, tmp_path, monkeypatch):
    path, data, _ = made
    copy = album.copy_of(path, tmp_path)
    arrays, _ = sections(data)
    ((offset, _),) = [(o, s) for n, o, s in arrays if n == "vectors"]
    (segment,) = album.segments(copy)
    segment.write_bytes(flipped(data, offset + 5))
    monkeypatch.setattr("hybridq.merger.Merger.wake", lambda self: None)
    with hybridq.connect(copy) as con:
        con.execute("INSERT INTO photos VALUES (99999, 'a', NULL)")
        con.execute("DELETE FROM photos WHERE id = 3")
        ((status,),) = con.execute("SELECT status FROM hybridq_merge('photos_v')").fetchall()
        assert status == "ok"
        assert any("damaged" in notice for notice in con.notices)
        album.check(con)
    with hybridq.connect(copy) as con:
        assert con.notices == []
        album.check(con)
