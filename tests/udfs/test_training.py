"""Transfer learning by SQL: what is trained, measured, kept and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybridq
from hybridq.errors import DataError, ProgrammingError

KINDS = ("bird", "ship", "truck")


def one(con: hybridq.Connection, sql: str, *parameters: Any) -> Any:
    return con.execute(sql, list(parameters) or None).fetchall()[0][0]


def report(con: hybridq.Connection, call: str) -> dict[str, Any]:
    cursor = con.execute(f"SELECT * FROM open_analytic.{call}")
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    assert len(rows) == 1
    return dict(zip(names, rows[0], strict=True))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, album: Path) -> Path:
    """A database of 90 photos, a third of them held out by us (`id % 3 = 0`), and 3 bad rows."""
    path = tmp_path_factory.mktemp("training") / "items.duckdb"
    with hybridq.connect(path) as con:
        con.execute("CREATE EXTENSION open_analytic")
        con.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, image BLOB, kind TEXT)")
        photos = [
            (kind, photo.read_bytes())
            for kind in KINDS
            for photo in sorted((album / "photos").glob(f"{kind}_*.png"))[:30]
        ]
        rows = [(number, image, kind) for number, (kind, image) in enumerate(photos)]
        rows += [(90, None, "ship"), (91, photos[0][1], None), (92, b"no picture", "bird")]
        con.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)
        con.execute("ALTER TABLE items ADD COLUMN feature FLOAT[]")
        con.execute("UPDATE items SET feature = extract_feature(image) WHERE id < 90")
    return path


@pytest.fixture
def con(file: Path) -> Iterator[hybridq.Connection]:
    connection = hybridq.connect(file)
    yield connection
    connection.close()


def right(con: hybridq.Connection, call: str) -> float:
    return float(
        one(con, f"SELECT avg(({call} = kind)::INTEGER) FROM items WHERE id % 3 = 0 AND id < 90")
    )


def test_a_classifier_of_pictures(con: hybridq.Connection, file: Path) -> None:
    query = "SELECT image, kind FROM items WHERE id % 3 <> 0 AND id < 90"
    found = report(con, f"train_classifier('kinds', '{query}', held_out := 0.2, colours := true)")
    assert (found["operator"], found["classes"]) == ("kinds", 3)
    assert (found["rows"], found["held_out"], found["left_out"]) == (48, 12, 0)
    assert found["accuracy"] > max(0.5, found["majority"])
    assert right(con, "recognize(image, 'kinds')") >= 0.8
    labels = con.execute(
        "SELECT r.label, r.score FROM items, recognize(image, 'kinds', top := 3) AS r WHERE id = 0"
    ).fetchall()
    assert {label for label, _ in labels} == set(KINDS)
    assert sum(score for _, score in labels) == pytest.approx(1, abs=1e-4)
    assert labels[0] == max(labels, key=lambda label: label[1])
    operator = con.execute(
        "SELECT input, output FROM open_analytic.operators WHERE name = 'kinds'"
    ).fetchall()
    assert operator == [("image", "labels")]


def test_a_trained_operator_is_a_stage_and_outlives_the_connection(file: Path) -> None:
    query = "SELECT image, kind FROM items WHERE id % 2 = 0 AND id < 90"
    with hybridq.connect(file) as con:
        report(con, f"train_classifier('kind', '{query}')")
        one(con, "SELECT open_analytic.pipeline_create('both', '[\"embed\", \"kind\"]')")
        image = one(con, "SELECT image FROM items WHERE id = 1")
        before = one(con, "SELECT open_analytic.pipeline_run('both', ?)", image)
    found = json.loads(before)
    assert list(found) == ["feature", "kind"]
    assert found["kind"][0]["label"] in KINDS
    with hybridq.connect(file) as con:
        assert one(con, "SELECT open_analytic.pipeline_run('both', ?)", image) == before
        assert one(con, "SELECT open_analytic.operator_drop('kind')") is True
        assert one(con, "SELECT open_analytic.operator_drop('kind')") is False
        with pytest.raises(ProgrammingError, match='"kind" does not exist'):
            con.execute("SELECT recognize(?, 'kind')", [image])


def test_a_classifier_of_vectors(con: hybridq.Connection) -> None:
    query = "SELECT feature, kind FROM items WHERE id % 3 <> 0 AND id < 90"
    found = report(con, f"train_classifier('by_vector', '{query}', held_out := 0.2)")
    assert found["accuracy"] > max(0.5, found["majority"])
    assert right(con, "recognize(feature, 'by_vector')") >= 0.8
    with pytest.raises(ProgrammingError, match="takes a vector"):
        one(con, "SELECT recognize(image, 'by_vector') FROM items WHERE id = 0")
    with pytest.raises(DataError, match="3 dimensions, not 1024"):
        one(con, "SELECT recognize([1, 2, 3]::FLOAT[], 'by_vector')")


def test_a_metric_projection_brings_kinds_together(con: hybridq.Connection) -> None:
    query = "SELECT image, kind FROM items WHERE id < 90"
    found = report(con, f"train_projection('by_kind', '{query}', dim := 16, held_out := 0.3)")
    assert found["dim"] == 16
    assert found["precision_at_10"] > found["precision_at_10_before"]
    image = one(con, "SELECT image FROM items WHERE id = 4")
    vector = np.array(one(con, "SELECT extract_feature(?, 'by_kind')", image), np.float32)
    assert vector.shape == (16,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_whitening_is_a_model(file: Path) -> None:
    with hybridq.connect(file) as con:
        found = report(
            con,
            "fit_whitening('mine', 'SELECT image FROM items WHERE id < 90', "
            "dim := 32, pooling := 'gem')",
        )
        assert (found["model"], found["dim"], found["rows"]) == ("mine", 32, 90)
        assert 0.5 < found["variance"] < 1
        image = one(con, "SELECT image FROM items WHERE id = 4")
        vector = one(con, "SELECT extract_feature(?, 'mine')", image)
        assert len(vector) == 32
    with hybridq.connect(file) as con:
        assert one(con, "SELECT extract_feature(?, 'mine')", image) == vector
        with pytest.raises(ProgrammingError, match="its own weights, pooling and scales"):
            one(con, "SELECT extract_feature(?, 'mine', pooling => 'max')", image)
        assert one(con, "SELECT open_analytic.model_drop('mine')") is True
        with pytest.raises(ProgrammingError, match='model "mine" does not exist'):
            one(con, "SELECT extract_feature(?, 'mine')", image)


def test_the_same_rows_train_the_same(con: hybridq.Connection) -> None:
    query = "SELECT feature, kind FROM items WHERE id < 90 ORDER BY id"
    for name in ("first", "second"):
        report(con, f"train_classifier('{name}', '{query}')")
    score = "SELECT score FROM recognize((SELECT feature FROM items WHERE id = 5), '{}', top := 1)"
    assert one(con, score.format("first")) == one(con, score.format("second"))


def test_rows_that_cannot_be_used(con: hybridq.Connection) -> None:
    query = "SELECT image, kind FROM items WHERE id >= 60 ORDER BY id"
    with pytest.raises(DataError, match=r"image 33 of the query \(10 bytes"):
        report(con, f"train_classifier('some', '{query}')")
    con.execute("SET on_bad_input = 'null'")
    found = report(
        con, f"train_classifier('some', '{query}', held_out := 0.2)".replace("id >= 60", "id >= 59")
    )
    assert found["left_out"] == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("train_classifier('x', 'SELECT image FROM items')", ProgrammingError, "has 1 columns"),
        ("train_classifier('x', 'SELECT img FROM items')", ProgrammingError, "img"),
        ("train_classifier('x', 'DROP TABLE items')", ProgrammingError, "not a query"),
        ("train_classifier('x', 'SELECT 1; SELECT 2')", ProgrammingError, "not a query"),
        ("train_classifier('x', 'SELECT id, kind FROM items')", ProgrammingError, "BLOB"),
        ("train_classifier(NULL, 'SELECT 1')", ProgrammingError, "name of train_classifier"),
        (
            "train_classifier('x', 'SELECT feature, 1 FROM items WHERE id < 90')",
            DataError,
            "the labels name 1 class",
        ),
        (
            "train_classifier('x', 'SELECT feature, kind FROM items LIMIT 5')",
            DataError,
            "too few",
        ),
        (
            "train_classifier('embed', 'SELECT feature, kind FROM items')",
            ProgrammingError,
            "exists in every database",
        ),
        (
            "train_classifier('x', 'SELECT feature, kind FROM items', held_out := 1)",
            ProgrammingError,
            "held_out cannot be 1",
        ),
        (
            "train_classifier('x', 'SELECT feature, kind FROM items', model := 'clip')",
            ProgrammingError,
            'model "clip" does not exist',
        ),
        (
            "train_projection('x', 'SELECT feature, kind FROM items', model := "
            "'general_feature_extractor')",
            ProgrammingError,
            "has a projection already",
        ),
        (
            "train_projection('x', 'SELECT feature, kind FROM items WHERE id < 90')",
            DataError,
            "1,024 dimensions, not 1,280",
        ),
        (
            "fit_whitening('x', 'SELECT image FROM items WHERE id < 20', dim := 32)",
            DataError,
            "vary in .* directions",
        ),
        (
            "fit_whitening('x', 'SELECT image FROM items', dim := 0)",
            ProgrammingError,
            "dim cannot be 0",
        ),
        (
            "fit_whitening('resnet50', 'SELECT image FROM items')",
            ProgrammingError,
            "exists in every database",
        ),
    ],
)
def test_what_is_refused(
    con: hybridq.Connection, call: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        report(con, call)
    assert one(con, "SELECT count(*) FROM items") == 93
    assert one(con, "SELECT count(*) FROM open_analytic.operators WHERE name = 'x'") == 0
