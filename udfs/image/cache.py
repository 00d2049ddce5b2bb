"""The vectors of the last pictures asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import blake2b

from udfs.image.arrays import Precision, Vectors

Key = tuple[str, Precision, bytes]


def key_of(model_version: str, precision: Precision, image: bytes) -> Key:
    """Return the key of a picture: what determines its vector and nothing else."""
    return (model_version, precision, blake2b(image, digest_size=20).digest())


class FeatureCache:
    """The `rows` most recently used vectors. Safe to call from several threads."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._vectors: OrderedDict[Key, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: Key) -> Vectors | None:
        """Return the vector of `key` and mark it as used, or None."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
            return vector

    def put(self, key: Key, vector: Vectors) -> None:
        """Keep `vector`, forgetting the longest unused one when full."""
        with self._lock:
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
            if len(self._vectors) > self._rows:
                self._vectors.popitem(last=False)
