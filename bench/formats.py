"""Public formats into data sets: `python -m bench data NAME --import FILE …`.

*.fvecs *.bvecs *.ivecs   vectors: base, queries [, ground truth] (TEXMEX: SIFT1M, GIST1M, BigANN)
*.hdf5                    ann-benchmarks: train, test, distances; attribute `distance`
a folder                  Qdrant's filtered sets: vectors.npy, payloads.jsonl, tests.jsonl
*.parquet                 VectorDBBench: train (id, emb), test, [scalar_labels]

Angular sets are normalised, so that the order by l2 is theirs. What attributes a set has become
columns; price, stock and tag are added, so that every workload can be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import data as sets
from bench.data.dataset import CACHE, Columns, DataError, Dataset, invented, read, save

HELP = (
    "base and query files (fvecs, bvecs, VectorDBBench parquet), an ann-benchmarks hdf5, or the "
    "folder of a Qdrant filtered set"
)
_QUERIES = 500
_COMPONENT = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}


def vecs(path: Path) -> npt.NDArray[Any]:
    """Read fvecs, bvecs or ivecs as (n, d): an int32 d before every row's components."""
    component = np.dtype(_COMPONENT[path.suffix])
    size = path.stat().st_size
    if size < 4:
        raise DataError(f"{path} is empty or cut off")
    dim = int(np.fromfile(path, "<i4", 1)[0])
    width = 4 + dim * component.itemsize
    if not 0 < dim <= 65_536 or size % width:
        raise DataError(f"{path} is no {path.suffix[1:]} file, or is cut off")
    rows = np.memmap(path, np.uint8, "r").reshape(-1, width)
    if not (rows[:, :4] == rows[0, :4]).all():
        raise DataError(f"{path} has rows of different dimensions")
    return np.ascontiguousarray(rows[:, 4:]).view(component)


def from_vecs(name: str, files: Sequence[Path]) -> Dataset:
    """Base vectors, then queries; without these 500 rows are taken out."""
    base = vecs(files[0]).astype(np.float32)
    if len(files) > 1:
        return _dataset(name, base, vecs(files[1]).astype(np.float32), {})
    return _split(name, base, {})


def from_hdf5(name: str, path: Path) -> Dataset:
    try:
        import h5py
    except ImportError as error:
        raise DataError("hdf5 needs h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            metric = str(file.attrs.get("distance", "euclidean"))
            base = np.asarray(file["train"], np.float32)
            queries = np.asarray(file["test"], np.float32)
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is no ann-benchmarks file: {error}") from error
    if metric in ("angular", "cosine"):
        base, queries = _unit(base), _unit(queries)
    elif metric != "euclidean":
        raise DataError(f"{path} has distance {metric!r}: only euclidean and angular are read")
    return _dataset(name, base, queries, {})


def from_qdrant(name: str, folder: Path) -> Dataset:
    """Vectors with payloads; tests have queries with conditions, of which `own` cells are made."""
    for file in ("vectors.npy", "payloads.jsonl", "tests.jsonl"):
        if not (folder / file).exists():
            raise DataError(f"{folder} is no Qdrant filtered set: it has no {file}")
    vectors = np.asarray(np.load(folder / "vectors.npy"), np.float32)
    payloads = _lines(folder / "payloads.jsonl")
    tests = _lines(folder / "tests.jsonl")
    if len(payloads) != len(vectors):
        raise DataError(f"{folder} has {len(vectors)} vectors but {len(payloads)} payloads")
    columns = _columns(payloads)
    conditions = [_terms(t.get("conditions")) for t in tests]
    shapes = Counter(tuple((c, o) for c, o, _ in terms) for terms in conditions if terms)
    if not shapes:
        raise DataError(f"{folder}/tests.jsonl has no conditions of match and range")
    shape, many = shapes.most_common(1)[0]
    if many < len(tests):
        sys.stderr.write(f"{name}: {many:,} of {len(tests):,} tests have the usual conditions\n")
    kept = [n for n, terms in enumerate(conditions) if tuple((c, o) for c, o, _ in terms) == shape]
    kept = kept[:_QUERIES]
    queries = np.array([tests[n]["query"] for n in kept], np.float32)
    terms = [
        {"column": c, "operator": o, "values": [conditions[n][at][2] for n in kept]}
        for at, (c, o) in enumerate(shape)
    ]
    for column, _ in shape:
        if column not in columns:
            raise DataError(f"{folder}: the tests ask for {column!r}, which no payload has")
    own = {"name": "own filter", "terms": terms, "workload": "own"}
    return _dataset(name, _unit(vectors), _unit(queries), columns, (own,))


def from_parquet(name: str, files: Sequence[Path]) -> Dataset:
    """VectorDBBench: train files (id, emb), a test file, and scalar_labels (id, labels)."""
    import pyarrow.parquet as pq

    try:
        tables = {f: pq.read_table(f) for f in files}
    except (OSError, ValueError) as error:
        raise DataError(f"not Parquet: {error}") from error
    train = [f for f in files if "train" in f.name]
    test = [f for f in files if f.name.startswith("test")]
    labels = [f for f in files if "label" in f.name]
    if not train or "emb" not in tables[train[0]].column_names:
        raise DataError("VectorDBBench sets have *train*.parquet with columns id and emb")
    base = np.concatenate([_embeddings(tables[f]["emb"]) for f in train])
    ids = np.concatenate([tables[f]["id"].to_numpy() for f in train])
    columns: Columns = {}
    if labels:
        table = tables[labels[0]]
        known = dict(zip(table["id"].to_pylist(), table["labels"].to_pylist(), strict=True))
        columns["labels"] = np.array([str(known.get(int(i), "")) for i in ids])
    if test:
        return _dataset(name, base, _embeddings(tables[test[0]]["emb"]), columns)
    return _split(name, base, columns)


def read_public(name: str, source: Sequence[Path]) -> Dataset:
    """Read files of one of the formats, told by their names."""
    for path in source:
        if not path.exists():
            raise DataError(f"{path} is not there")
    first = source[0]
    if first.is_dir():
        files = sorted(first.glob("*.parquet"))
        return from_parquet(name, files) if files else from_qdrant(name, first)
    match first.suffix:
        case ".fvecs" | ".bvecs" | ".ivecs":
            return from_vecs(name, source)
        case ".hdf5" | ".h5":
            return from_hdf5(name, first)
        case ".parquet":
            return from_parquet(name, source)
        case _:
            raise DataError(f"{first}: not a known format ({HELP})")


def _dataset(
    name: str,
    base: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    columns: Columns,
    own: tuple[dict[str, Any], ...] = (),
) -> Dataset:
    if base.ndim != 2 or queries.ndim != 2 or base.shape[1] != queries.shape[1]:
        raise DataError(f"{name}: base {base.shape} and queries {queries.shape} do not fit")
    for what, vectors in (("base", base), ("queries", queries)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            raise DataError(f"{name}: row {bad[0]} of {what} has NaN or Inf")
    attributes = {"id": np.arange(len(base), dtype=np.int32), **columns, **invented(len(base))}
    filters = ("price", "stock", "tag", *columns)
    kept = {n: c[:0] for n, c in columns.items()}
    return Dataset(base, attributes, queries[:_QUERIES], kept, name, filters, own)


def _split(name: str, base: npt.NDArray[np.float32], columns: Columns) -> Dataset:
    if len(base) < 2 * _QUERIES:
        raise DataError(f"{name}: {len(base)} vectors and no queries are too few")
    asked = np.zeros(len(base), np.bool_)
    asked[np.random.default_rng(3).choice(len(base), _QUERIES, replace=False)] = True
    return _dataset(name, base[~asked], base[asked], {n: c[~asked] for n, c in columns.items()})


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _embeddings(column: Any) -> npt.NDArray[np.float32]:
    chunk = column.combine_chunks()
    values = chunk.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if len(chunk) == 0 or len(values) % len(chunk):
        raise DataError("embeddings have different dimensions")
    return values.reshape(len(chunk), -1)


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    with path.open() as file:
        for n, line in enumerate(file, 1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise DataError(f"{path}:{n} is no JSON: {error}") from error
    return found


def _columns(payloads: Sequence[dict[str, Any]]) -> Columns:
    """Return scalar fields; one that is missing is 0 or ''. Others are left out."""
    names = sorted({n for p in payloads for n in p})
    found: Columns = {}
    for name in names:
        values = [p.get(name) for p in payloads]
        kinds = {type(v) for v in values if v is not None}
        column = name if name not in ("id", "price", "stock", "tag", "v") else f"own_{name}"
        if kinds <= {int, bool}:
            found[column] = np.array([int(v or 0) for v in values])
        elif kinds <= {int, float}:
            found[column] = np.array([float(v or 0) for v in values], np.float32)
        elif kinds == {str}:
            found[column] = np.array([v or "" for v in values])
        else:
            sys.stderr.write(f"field {name!r} is no scalar: left out\n")
    return found


def _terms(conditions: Any) -> list[tuple[str, str, Any]]:
    """Return (column, operator, value) of Qdrant's `{"and": [{field: {match | range}}]}`."""
    found: list[tuple[str, str, Any]] = []
    for condition in (conditions or {}).get("and", []):
        for field, test in condition.items():
            column = field if field not in ("id", "price", "stock", "tag", "v") else f"own_{field}"
            if "match" in test:
                found.append((column, "=", test["match"]["value"]))
            for name, operator in (("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")):
                value = test.get("range", {}).get(name)
                if value is not None:
                    found.append((column, operator, value))
    return found


def command(arguments: argparse.Namespace) -> int:
    """`python -m bench data`."""
    if arguments.source:
        if len(arguments.name) != 1 or arguments.name[0] in sets.MAKERS:
            raise DataError(f"--import takes one new name, not of {', '.join(sets.MAKERS)}")
        (name,) = arguments.name
        save(sets.folder(name), read_public(name, arguments.source))
        _describe(sets.load(name))
        return 0
    failed = 0
    for name in arguments.name:
        try:
            if name == "sift" or not arguments.verify:
                _describe(sets.load(name, arguments.rows, make=True))
            else:
                _describe(read(sets.folder(name), name, verify=True))
        except (DataError, OSError) as error:
            sys.stderr.write(f"{name}: {error}\n")
            failed += 1
    if not arguments.name:
        for name in [*sets.MAKERS, *sets.imported()]:
            there = (CACHE / "sift" / "X.npy" if name == "sift" else sets.folder(name)).exists()
            print(f"{name:12} {'there' if there else 'python -m bench data ' + name}")
    return int(failed > 0)


def _describe(data: Dataset) -> None:
    print(f"{data.name}: {len(data.vectors):,} x {data.dim}, {len(data.queries)} queries")
    for name, column in data.attributes.items():
        # NumPy has no minimum of texts.
        low, high = np.sort(column)[[0, -1]]
        print(f"  {name:15} {column.dtype!s:8} {low} … {high}")
