"""Public formats are read as they are written; files that are damaged are named."""

import argparse
import json
import struct

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import formats
from bench.data.dataset import DataError, read, save
from bench.workloads import asked

X = np.random.default_rng(0).standard_normal((1_200, 6)).astype(np.float32)


def write_vecs(path, rows, code):
    with path.open("wb") as file:
        for row in rows:
            file.write(struct.pack("<i", len(row)))
            file.write(struct.pack(f"<{len(row)}{code}", *row.tolist()))


@pytest.mark.parametrize(
    ("name", "code", "dtype"),
    [("a.fvecs", "f", np.float32), ("a.bvecs", "B", np.uint8), ("a.ivecs", "i", np.int32)],
)
def test_vecs(tmp_path, name, code, dtype):
    rows = np.arange(60).reshape(10, 6).astype(dtype)
    write_vecs(tmp_path / name, rows, code)
    found = formats.vecs(tmp_path / name)
    assert found.dtype == dtype
    assert (found == rows).all()


def test_vecs_that_are_cut_off(tmp_path):
    write_vecs(tmp_path / "a.fvecs", X[:10], "f")
    (tmp_path / "a.fvecs").write_bytes((tmp_path / "a.fvecs").read_bytes()[:-3])
    with pytest.raises(DataError, match=r"a\.fvecs"):
        formats.vecs(tmp_path / "a.fvecs")


def test_vecs_without_queries_gives_some_of_its_own(tmp_path):
    write_vecs(tmp_path / "base.fvecs", X, "f")
    data = formats.read_public("mine", [tmp_path / "base.fvecs"])
    assert data.vectors.shape == (700, 6)
    assert data.queries.shape == (500, 6)
    both = np.concatenate([data.vectors, data.queries])
    assert {r.tobytes() for r in both} == {r.tobytes() for r in X}


@pytest.mark.parametrize("distance", ["euclidean", "angular"])
def test_ann_benchmarks(tmp_path, distance):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["train"], file["test"] = X[:100], X[100:110]
        file.attrs["distance"] = distance
    data = formats.read_public("mine", [tmp_path / "a.hdf5"])
    norms = np.linalg.norm(data.vectors, axis=1)
    assert np.allclose(norms, 1, atol=1e-5) == (distance == "angular")
    assert len(data.queries) == 10


def test_ann_benchmarks_of_a_distance_that_is_not_known(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["train"], file["test"] = X[:100], X[100:110]
        file.attrs["distance"] = "jaccard"
    with pytest.raises(DataError, match="jaccard"):
        formats.read_public("mine", [tmp_path / "a.hdf5"])


def qdrant(folder, conditions):
    np.save(folder / "vectors.npy", X[:100])
    payloads = [{"a": n % 5, "b": n / 10, "c": f"t{n % 3}", "list": [n]} for n in range(100)]
    (folder / "payloads.jsonl").write_text("\n".join(map(json.dumps, payloads)))
    tests = [{"query": X[100 + n].tolist(), "conditions": c} for n, c in enumerate(conditions)]
    (folder / "tests.jsonl").write_text("\n".join(map(json.dumps, tests)))


def test_qdrant(tmp_path):
    match = {"and": [{"a": {"match": {"value": 3}}}, {"b": {"range": {"gt": 2.0, "lt": 8.0}}}]}
    other = {"and": [{"c": {"match": {"value": "t1"}}}]}
    qdrant(tmp_path, [match, other, match])
    save(tmp_path / "set", formats.read_public("mine", [tmp_path]))
    data = read(tmp_path / "set", "mine")
    (cell,) = asked(data, ["own"])
    assert len(data.queries) == 2
    assert cell.where() == " WHERE a = ? AND b > ? AND b < ?"
    b = data.attributes["b"]
    passing = np.flatnonzero((data.attributes["a"] == 3) & (b > 2) & (b < 8))
    assert (cell.passing(data.attributes, 1) == passing).all()


@pytest.mark.usefixtures("small")
def test_an_imported_set_is_described(tmp_path, capsys):
    qdrant(tmp_path, [{"and": [{"a": {"match": {"value": 3}}}]}])
    command = argparse.Namespace(source=[tmp_path], name=["mine"], rows=None, verify=False)
    assert formats.command(command) == 0
    said = capsys.readouterr().out
    assert "mine-100: 100 x 6, 1 queries" in said
    assert "0 … 4" in said
    assert "t0 … t2" in said


def test_qdrant_with_a_line_that_is_no_json(tmp_path):
    qdrant(tmp_path, [{"and": [{"a": {"match": {"value": 3}}}]}])
    with (tmp_path / "payloads.jsonl").open("a") as file:
        file.write("\n{cut")
    with pytest.raises(DataError, match=r"payloads\.jsonl:101"):
        formats.read_public("mine", [tmp_path])


def test_vectordbbench(tmp_path):
    embedding = pa.array(X[:100].tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": range(100), "emb": embedding}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"id": [0, 1], "emb": embedding[:2]}), tmp_path / "test.parquet")
    labels = pa.table({"id": range(100), "labels": [f"label_{n % 4}p" for n in range(100)]})
    pq.write_table(labels, tmp_path / "scalar_labels.parquet")
    data = formats.read_public("mine", [tmp_path])
    assert (data.vectors == X[:100]).all()
    assert data.attributes["labels"][5] == "label_1p"


def test_nan_is_named(tmp_path):
    bad = X[:100].copy()
    bad[7, 2] = np.nan
    write_vecs(tmp_path / "base.fvecs", bad, "f")
    write_vecs(tmp_path / "query.fvecs", X[100:110], "f")
    with pytest.raises(DataError, match="row 7 of base"):
        formats.read_public("mine", [tmp_path / "base.fvecs", tmp_path / "query.fvecs"])


@pytest.mark.parametrize("damage", ["cut", "missing", "meta"])
def test_a_damaged_set_is_not_read(small, cache, damage):
    folder = cache / "sets" / "small"
    file = folder / ("meta.json" if damage == "meta" else "X.npy")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-10])
    with pytest.raises(DataError, match="small"):
        read(folder, "small")
    file.write_bytes(content)
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    if damage == "cut":
        file.write_bytes(flipped)
        with pytest.raises(DataError, match=r"X\.npy is damaged"):
            read(folder, "small", verify=True)
    file.write_bytes(content)
    assert (read(folder, "small", verify=True).vectors == small.vectors).all()
