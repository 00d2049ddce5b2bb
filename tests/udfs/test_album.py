"""The shipped album: what its README says holds, and search finds more of a photo's kind."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

import hybridq
from udfs.image.extract import Extractor

ROOT = Path(__file__).parent.parent.parent
Attributes = list[dict[str, str]]


def features(context: object, paths: list[Path]) -> npt.NDArray[np.float32]:
    images = pa.array([path.read_bytes() for path in paths], pa.binary())
    found = Extractor(context).extract_feature(images)  # type: ignore[arg-type]
    return np.array(found.to_pylist(), np.float32)


def precision_at(k: int, vectors: npt.NDArray[np.float32], labels: list[str]) -> float:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1)[:, :k]
    names = np.array(labels)
    return float((names[nearest] == names[:, None]).mean())


def test_every_photo_has_its_attributes(album: Path, attributes: Attributes) -> None:
    assert Counter(row["label"] for row in attributes) == dict.fromkeys(
        {row["label"] for row in attributes}, 100
    )
    assert len(attributes) == 1000
    assert {path.name for path in (album / "photos").iterdir()} == {
        row["filename"] for row in attributes
    }


def test_attributes_are_those_of_the_pixels(album: Path, attributes: Attributes) -> None:
    for row in attributes[::100]:
        with Image.open(album / "photos" / row["filename"]) as image:
            assert image.size == (int(row["width"]), int(row["height"]))
            luma = np.asarray(image.convert("RGB")) @ np.array([0.299, 0.587, 0.114])
        assert abs(luma.mean() - float(row["brightness"])) <= 0.051
        assert abs(luma.std() - float(row["contrast"])) <= 0.051


def test_no_query_is_in_the_album(album: Path) -> None:
    def pixels(path: Path) -> bytes:
        with Image.open(path) as image:
            return image.tobytes()

    photos = {pixels(path) for path in (album / "photos").iterdir()}
    queries = [pixels(path) for path in (album / "queries").iterdir()]
    assert len(queries) == 50
    assert photos.isdisjoint(queries)


def test_album_stays_small(album: Path) -> None:
    assert sum(path.stat().st_size for path in album.rglob("*") if path.is_file()) < 6 << 20


def test_neighbours_are_of_a_kind(album: Path, attributes: Attributes, context: object) -> None:
    # Every tenth photo: 0.607 was measured; by chance it would be 0.10.
    rows = attributes[::10]
    vectors = features(context, [album / "photos" / row["filename"] for row in rows])
    assert precision_at(3, vectors, [row["label"] for row in rows]) > 0.5


@pytest.mark.slow
def test_search_by_sql_over_the_whole_album(album: Path) -> None:
    con = hybridq.connect()
    con.execute("CREATE TABLE album (name TEXT PRIMARY KEY, label TEXT, feature FLOAT[1024])")
    con.execute(
        "INSERT INTO album SELECT a.filename, a.label, extract_feature(f.content) "
        f"FROM read_blob('{album.as_posix()}/photos/*.png') AS f "
        f"JOIN read_csv('{album.as_posix()}/attributes.csv') AS a "
        "ON a.filename = parse_filename(f.filename)"
    )
    con.execute("CREATE INDEX i ON album USING ann (feature)")
    rows = con.execute("SELECT label, feature FROM album").fetchall()
    vectors = np.array([feature for _, feature in rows], np.float32)
    # 0.714 was measured.
    assert precision_at(10, vectors, [label for label, _ in rows]) >= 0.65

    birds = []
    for photo in sorted((album / "queries").glob("bird_*.png")):
        found = con.execute(
            "SELECT label FROM album ORDER BY feature <-> extract_feature(?) LIMIT 10",
            [photo.read_bytes()],
        ).fetchall()
        birds.append(sum(label == "bird" for (label,) in found))
    con.close()
    # 4, 6, 10, 10 and 9 were measured: the first is a hen that looks like the album's horses.
    assert birds[2] >= 6
    assert np.mean(birds) >= 6


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / "demo.py"]
    for album, code in (("nowhere", 1), (ROOT / "album", 0), (ROOT / "album", 0)):
        done = subprocess.run(
            [*command, "--album", album], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert "INSERT" not in done.stdout
    assert "bird" in done.stdout
    assert "fused" in done.stdout
    with Image.open(tmp_path / "demo-results.png") as sheet:
        assert sheet.width > 1000


def test_attributes_csv_is_what_read_csv_expects(album: Path, con: hybridq.Connection) -> None:
    with (album / "attributes.csv").open(newline="") as file:
        header = next(csv.reader(file))
    types = con.execute(
        f"DESCRIBE SELECT * FROM read_csv('{(album / 'attributes.csv').as_posix()}')"
    ).fetchall()
    assert [row[0] for row in types] == header
    assert dict(row[:2] for row in types)["brightness"] == "DOUBLE"
