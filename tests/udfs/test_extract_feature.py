"""`extract_feature` in SQL: what it takes, what it gives, what it says."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import hybridq
from hybridq.errors import DataError, OperationalError, ProgrammingError
from udfs.image import extract, precision
from udfs.image.cache import FeatureCache, key_of
from udfs.image.extract import Extractor
from udfs.image.inputs import Inputs
from udfs.image.models import DEFAULT_MODEL, describe

BAD = b"GIF89a but no more"


def one(con: hybridq.Connection, sql: str, *parameters: Any) -> Any:
    return con.execute(sql, list(parameters) or None).fetchall()[0][0]


def pictures(*images: bytes | None) -> pa.Array:
    return pa.array(images, pa.binary())


def vectors(array: pa.Array) -> npt.NDArray[np.float32]:
    return np.array(array.to_pylist(), np.float32)


def test_default_model(con: hybridq.Connection, photos: list[bytes]) -> None:
    vector = np.array(one(con, "SELECT extract_feature(?)", photos[0]), np.float32)
    assert vector.shape == (1024,)
    assert np.isclose(np.linalg.norm(vector), 1, atol=1e-5)
    assert one(con, "SELECT typeof(extract_feature(?))", photos[0]) == "FLOAT[]"


def test_named_models(con: hybridq.Connection, photos: list[bytes]) -> None:
    both = con.execute(
        "SELECT extract_feature($1, 'efficientnet_lite0'), extract_feature($1, $2) "
        "= extract_feature($1)",
        [photos[0], DEFAULT_MODEL],
    ).fetchall()
    assert len(both[0][0]) == 1280
    assert both[0][1] is True


def test_a_column_of_models(context: Any, photos: list[bytes]) -> None:
    names = pa.array(["efficientnet_lite0", None, DEFAULT_MODEL, "efficientnet_lite0"])
    found = Extractor(context).extract_feature(pictures(*photos[:4]), names).to_pylist()
    assert [vector and len(vector) for vector in found] == [1280, None, 1024, 1280]
    alone = Extractor(context, FeatureCache(9)).extract_feature(
        pictures(photos[3]), pa.array(["efficientnet_lite0"])
    )
    assert found[3] == alone.to_pylist()[0]


def test_null_gives_null(con: hybridq.Connection, photos: list[bytes]) -> None:
    assert one(con, "SELECT extract_feature(NULL)") is None
    assert one(con, "SELECT extract_feature(NULL::BLOB)") is None
    assert one(con, "SELECT extract_feature(?, NULL)", photos[0]) is None
    rows = con.execute(
        "SELECT extract_feature(image) IS NULL FROM (VALUES (?::BLOB), (NULL), (?)) AS t(image)",
        [photos[0], photos[1]],
    )
    assert [row[0] for row in rows.fetchall()] == [False, True, False]


def test_no_rows(con: hybridq.Connection, context: Any) -> None:
    assert con.execute("SELECT extract_feature('x'::BLOB) WHERE false").fetchall() == []
    assert len(Extractor(context).extract_feature(pictures())) == 0


def test_text_is_the_path_of_an_image(con: hybridq.Connection, album: Path) -> None:
    path = sorted((album / "photos").iterdir())[0]
    by_path = one(con, "SELECT extract_feature(?)", str(path))
    assert by_path == one(con, "SELECT extract_feature(?)", path.read_bytes())
    assert by_path == one(con, "SELECT extract_feature(?)", path.as_uri())
    con.execute("SET enable_external_access = false")
    with pytest.raises(OperationalError, match="must not read files"):
        one(con, "SELECT extract_feature(?)", str(path))


@pytest.mark.parametrize("path", ["album/nothing.png", "file:///nothing.png", "album", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(con: hybridq.Connection, path: str) -> None:
    with pytest.raises(DataError, match="image 1 of this batch") as caught:
        one(con, "SELECT extract_feature(?)", path)
    assert repr(path) in caught.value.message
    con.execute("SET on_bad_input = 'null'")
    assert one(con, "SELECT extract_feature(?)", path) is None


def test_number_and_type_of_arguments(con: hybridq.Connection, photos: list[bytes]) -> None:
    with pytest.raises(ProgrammingError, match="BLOB"):
        one(con, "SELECT extract_feature(3)")
    with pytest.raises(ProgrammingError, match="extract_feature"):
        one(con, "SELECT extract_feature(?, 'a', 'b', 'c', [1], 'd')", photos[0])
    with pytest.raises(ProgrammingError, match="model of extract_feature is a text"):
        one(con, "SELECT extract_feature(?, 7)", photos[0])
    with pytest.raises(ProgrammingError, match="scales of extract_feature is a list of numbers"):
        one(con, "SELECT extract_feature(?, scales => 'big')", photos[0])


def test_poolings_and_scales(con: hybridq.Connection, photos: list[bytes]) -> None:
    seen = {}
    for arguments in ("", ", pooling => 'max'", ", pooling => 'gem'", ", pooling => 'rmac'"):
        call = f"SELECT extract_feature(?, model => 'efficientnet_lite0'{arguments})"
        seen[arguments] = np.array(one(con, call, photos[0]), np.float32)
    seen["scales"] = np.array(
        one(con, "SELECT extract_feature(?, 'efficientnet_lite0', scales => [1, 0.7])", photos[0]),
        np.float32,
    )
    found = np.stack(list(seen.values()))
    assert found.shape == (5, 1280)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    likeness = found @ found.T
    assert (likeness[~np.eye(5, dtype=bool)] < 0.9999).all()
    assert (likeness > 0.3).all()


def test_what_cannot_be_composed(con: hybridq.Connection, photos: list[bytes]) -> None:
    for arguments, message in (
        ("model => 'efficientnet_lite0', pooling => 'median'", 'pooling "median" does not exist'),
        ("model => 'efficientnet_lite0', scales => [0.01]", "scales cannot be"),
        ("model => 'efficientnet_lite0', scales => []", "scales cannot be"),
        ("pooling => 'gem'", "has its own weights, pooling and scales"),
        ("model => 'resnet50'", 'no package brings weights for "resnet50"'),
    ):
        with pytest.raises(ProgrammingError, match=message):
            one(con, f"SELECT extract_feature(?, {arguments})", photos[0])


def test_a_named_argument_in_a_search(con: hybridq.Connection, photos: list[bytes]) -> None:
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, feature FLOAT[1280])")
    con.executemany(
        "INSERT INTO t VALUES (?, extract_feature(?, model => 'efficientnet_lite0'))",
        list(enumerate(photos[:6])),
    )
    con.execute("CREATE INDEX i ON t USING ann (feature)")
    for arrow in ("=>", ":="):
        query = (
            "SELECT id FROM t ORDER BY feature <-> "
            f"extract_feature(?, model {arrow} 'efficientnet_lite0') LIMIT 1"
        )
        assert con.execute(query, [photos[4]]).fetchall() == [(4,)]
        plan = con.execute("EXPLAIN " + query, [photos[4]]).fetchall()
        assert "ann" in str(plan) or "fused" in str(plan)


def test_unknown_model(con: hybridq.Connection, photos: list[bytes]) -> None:
    with pytest.raises(ProgrammingError, match='model "resnet" does not exist') as caught:
        one(con, "SELECT extract_feature(?, 'resnet')", photos[0])
    assert "general_feature_extractor" in str(caught.value.hint)


def test_bad_image_is_named(con: hybridq.Connection, context: Any, photos: list[bytes]) -> None:
    with pytest.raises(DataError, match="cannot be used") as caught:
        one(con, "SELECT extract_feature(?)", BAD)
    assert "18 bytes, starts with 'GIF89a but n'" in caught.value.message
    assert "on_bad_input" in str(caught.value.hint)
    with pytest.raises(DataError, match=r"image 3 of this batch \(300 bytes, starts with 0x8950"):
        Extractor(context).extract_feature(pictures(photos[0], None, photos[1][:300], BAD))


def test_bad_image_as_null(con: hybridq.Connection, context: Any, photos: list[bytes]) -> None:
    con.execute("SET on_bad_input = 'null'")
    assert one(con, "SELECT extract_feature(?)", BAD) is None
    context.settings["on_bad_input"] = "null"
    mixed = [photos[n % 5] if n % 3 else BAD for n in range(20)]
    found = Extractor(context).extract_feature(pictures(*mixed)).to_pylist()
    assert [vector is None for vector in found] == [n % 3 == 0 for n in range(20)]
    assert found[1] == Extractor(context).extract_feature(pictures(mixed[1])).to_pylist()[0]


def test_progress_counts_every_row(context: Any, photos: list[bytes]) -> None:
    context.settings["on_bad_input"] = "null"
    Extractor(context).extract_feature(pictures(*photos[:18], None, BAD))
    assert context.progress.done == 20
    Extractor(context).extract_feature(
        pictures(photos[0], photos[0]), pa.array([None, DEFAULT_MODEL])
    )
    assert context.progress.done == 22


def test_same_picture_alone_and_in_a_table(con: hybridq.Connection, photos: list[bytes]) -> None:
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, image BLOB, feature FLOAT[])")
    con.executemany("INSERT INTO t VALUES (?, ?, NULL)", list(enumerate(photos)))
    con.execute("UPDATE t SET feature = extract_feature(image)")
    nearest = con.execute(
        "SELECT id, feature <-> extract_feature(?) AS d FROM t ORDER BY d LIMIT 1", [photos[7]]
    ).fetchall()
    assert nearest[0][0] == 7
    assert nearest[0][1] < 1e-5


def test_cache_serves_queries_and_ignores_imports(
    context: Any, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(100)
    extractor = Extractor(context, cache)
    first = extractor.extract_feature(pictures(photos[0], photos[1]))
    assert len(cache) == 2

    def unexpected(*_: object) -> None:
        raise AssertionError("a cached picture was embedded again")

    with monkeypatch.context() as patch:
        patch.setattr(extract, "_embedded", unexpected)
        again = extractor.extract_feature(pictures(photos[1], photos[0]))
    assert again.to_pylist() == first.to_pylist()[::-1]
    extractor.extract_feature(pictures(*photos[:17]))
    assert len(cache) == 2


def test_cache_keeps_models_and_precisions_apart(context: Any, photos: list[bytes]) -> None:
    cache = FeatureCache(100)
    extractor = Extractor(context, cache)
    info = describe(DEFAULT_MODEL)
    images = Inputs("f", pictures(photos[0]), context)
    bf16 = extractor.vectors(images, info, "bf16", [0])[0]
    fp32 = extractor.vectors(images, info, "fp32", [0])[0]
    assert bf16 is not None
    assert not np.array_equal(bf16, np.asarray(fp32))
    extractor.vectors(images, describe("efficientnet_lite0"), "bf16", [0])
    assert len(cache) == 3


def test_cache_forgets_the_longest_unused() -> None:
    cache = FeatureCache(2)
    keys = [key_of("m", "fp32", bytes([n])) for n in range(3)]
    for number, key in enumerate(keys):
        cache.put(key, np.full(1, number, np.float32))
        cache.get(keys[0])
    assert [cache.get(key) is not None for key in keys] == [True, False, True]


def test_precision_is_kept_in_the_database(
    tmp_path: Path,
    photos: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "album.duckdb"
    found = []
    for native in (True, False):
        monkeypatch.setattr(precision, "native_bf16", lambda native=native: native)
        monkeypatch.setattr(extract, "FEATURES", FeatureCache(0))
        precision._warn_slow.cache_clear()
        con = hybridq.connect(path)
        found.append(one(con, "SELECT extract_feature(?)", photos[0]))
        con.close()
    assert found[0] == found[1]
    assert "emulate" in caplog.text


def test_precision_survives_a_rollback(
    tmp_path: Path, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "album.duckdb"
    con = hybridq.connect(path)
    con.execute("CREATE TABLE t (feature FLOAT[])")
    con.execute("BEGIN")
    con.execute("INSERT INTO t SELECT extract_feature(?)", [photos[0]])
    con.execute("ROLLBACK")
    con.execute("INSERT INTO t SELECT extract_feature(?)", [photos[0]])
    made = one(con, "SELECT feature FROM t")
    con.close()
    native = precision.native_bf16()
    monkeypatch.setattr(precision, "native_bf16", lambda: not native)
    con = hybridq.connect(path)
    assert one(con, "SELECT extract_feature(?)", photos[0]) == made
    con.close()


def test_precision_follows_the_processor_then_the_setting(
    context: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    info = describe(DEFAULT_MODEL)
    monkeypatch.setattr(precision, "native_bf16", lambda: False)
    assert precision.of_database(context, info) == "fp32"
    context.objects.clear()
    context.settings["image_precision"] = "bf16"
    assert precision.of_database(context, info) == "bf16"
    context.settings["image_precision"] = "fp32"
    precision._warn_asked.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert precision.of_database(context, info) == "bf16"
    assert "keeps its vectors in bf16" in caplog.text
    context.settings["image_precision"] = "auto"
    assert precision.of_database(context, info) == "bf16"


def test_vectors_of_another_version_are_warned_about(
    context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    info = describe(DEFAULT_MODEL)
    kept = {"precision": "fp32", "version": "older", "dim": 1}
    context.objects.put("precision", info.name, kept)
    precision.warn_version.cache_clear()
    precision.of_database(context, info)
    assert "older" in caplog.text


def test_a_database_that_cannot_be_written(
    context: Any, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("read-only")

    monkeypatch.setattr(context.objects, "put", refuse)
    assert Extractor(context).extract_feature(pictures(photos[0])).is_valid().to_pylist() == [True]


def test_several_threads(context: Any, photos: list[bytes]) -> None:
    extractor = Extractor(context, FeatureCache(0))
    expected = vectors(extractor.extract_feature(pictures(*photos[:6])))
    found: dict[int, npt.NDArray[np.float32]] = {}

    def work(number: int) -> None:
        found[number] = vectors(extractor.extract_feature(pictures(*photos[:6])))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(each, expected) for each in found.values())
