"""Pipelines: created once, run by name, their JSON exact."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.errors import DataError, ProgrammingError
from udfs.image import precision
from udfs.open_analytic.pipelines import Pipelines
from udfs.open_analytic.run import json_text

CREATE = "SELECT open_analytic.pipeline_create('general_feature_extractor')"
RUN = "SELECT open_analytic.pipeline_run_dist_random('general_feature_extractor', ?)"


@pytest.fixture
def analytic(con: hybridq.Connection) -> hybridq.Connection:
    con.execute("CREATE EXTENSION open_analytic")
    return con


def one(con: hybridq.Connection, sql: str, *parameters: Any) -> Any:
    return con.execute(sql, list(parameters) or None).fetchall()[0][0]


def test_create_and_run(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    assert one(analytic, CREATE) == "general_feature_extractor"
    assert one(analytic, CREATE) == "general_feature_extractor"
    text = one(analytic, RUN, photos[0])
    expected = np.array(one(analytic, "SELECT extract_feature(?)", photos[0]), np.float32)
    assert np.array_equal(np.array(json.loads(text)["feature"], np.float32), expected)


def test_feature_by_json_in_sql(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, CREATE)
    found = one(
        analytic,
        "SELECT (open_analytic.pipeline_run_dist_random('general_feature_extractor', ?)"
        "::JSON->'feature')::REAL[]",
        photos[3],
    )
    assert found == one(analytic, "SELECT extract_feature(?)", photos[3])


def test_over_a_table(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    analytic.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, image BLOB)")
    analytic.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate([*photos, None])))
    one(analytic, CREATE)
    rows = analytic.execute(
        "SELECT id, open_analytic.pipeline_run_dist_random('general_feature_extractor', image) "
        "FROM t ORDER BY id"
    ).fetchall()
    assert [text is None for _, text in rows] == [False] * len(photos) + [True]
    assert one(analytic, RUN, photos[5]) == rows[5][1]


def test_a_pipeline_outlives_the_connection(tmp_path: Path, photos: list[bytes]) -> None:
    con = hybridq.connect(tmp_path / "a.duckdb")
    con.execute("CREATE EXTENSION open_analytic")
    one(con, CREATE)
    before = one(con, RUN, photos[0])
    con.close()
    con = hybridq.connect(tmp_path / "a.duckdb")
    after = one(con, RUN, photos[0])
    con.close()
    assert before == after


def test_a_pipeline_must_be_created(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, "SELECT extract_feature(?)", photos[0])
    with pytest.raises(ProgrammingError, match="was not created") as caught:
        one(analytic, RUN, photos[0])
    remedy = "SELECT open_analytic.pipeline_create('general_feature_extractor')"
    assert caught.value.hint == remedy


def test_unknown_names(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    with pytest.raises(ProgrammingError, match="needs a definition") as caught:
        one(analytic, "SELECT open_analytic.pipeline_create('mine')")
    assert "general_feature_extractor" in str(caught.value.hint)
    with pytest.raises(ProgrammingError, match="was not created"):
        one(analytic, "SELECT open_analytic.pipeline_run_dist_random('mine', ?)", photos[0])


def test_bad_input(analytic: hybridq.Connection) -> None:
    one(analytic, CREATE)
    with pytest.raises(DataError, match=r"image 1 of this batch .* cannot be used"):
        one(analytic, RUN, b"nothing")
    with pytest.raises(DataError, match=r"'photo\.jpg'.* no such file"):
        one(analytic, RUN, "photo.jpg")
    with pytest.raises(ProgrammingError, match="BLOB"):
        one(analytic, RUN, 7)
    assert one(analytic, RUN, None) is None
    analytic.execute("SET on_bad_input = 'null'")
    assert one(analytic, RUN, b"nothing") is None


def test_a_pipeline_of_another_precision_is_warned_about(
    context: Any, photos: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    context.settings["image_precision"] = "bf16"
    pipelines = Pipelines(context)
    names = pa.array(["general_feature_extractor"])
    pipelines.create(names, pa.nulls(1, pa.string()))
    kept = {"precision": "fp32", "version": "x", "dim": 1024}
    context.objects.put("precision", "general_feature_extractor", kept)
    precision._warn_mixed.cache_clear()
    with caplog.at_level(logging.WARNING):
        pipelines.run(names, pa.array([photos[0]], pa.binary()))
    assert "created in bf16" in caplog.text


def test_a_pipeline_keeps_model_version_and_precision(context: Any) -> None:
    context.settings["image_precision"] = "fp32"
    Pipelines(context).create(pa.array(["efficientnet_lite0"]), pa.nulls(1, pa.string()))
    stage = context.objects.get("pipeline", "efficientnet_lite0").options["stages"][1]
    assert (stage["operator"], stage["model"]) == ("embed", "efficientnet_lite0")
    assert (stage["precision"], stage["version"]) == ("fp32", "efficientnet-lite0-57934424")
    kept = context.objects.get("precision", "efficientnet_lite0").options
    assert kept["precision"] == "fp32"


def test_json_reads_back_exactly(con: hybridq.Connection) -> None:
    generator = np.random.default_rng(7)
    unit = generator.standard_normal(50_000).astype(np.float32)
    bits = generator.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
    edges = np.array([0, -0.0, 1, -1, 1e-45, 1.1754944e-38, 3.4028235e38, 0.1, 16777216], "f4")
    vector = np.concatenate([unit, unit / 32, bits[np.isfinite(bits)], edges])
    text = json_text({"feature": vector})
    read = np.array(json.loads(text)["feature"], np.float32)
    assert np.array_equal(read.view(np.uint32), vector.view(np.uint32))
    by_sql = con.execute("SELECT unnest((?::JSON->'feature')::REAL[])", [text]).fetchall()
    assert np.array_equal(np.array(by_sql, np.float32)[:, 0], vector)


def test_json_numbers_are_short() -> None:
    vector = np.array([0.1, -0.25, 1e-7, 3, -0.0], np.float32)
    assert json_text({"feature": vector}) == '{"feature": [0.1, -0.25, 1e-7, 3, -0.0]}'
