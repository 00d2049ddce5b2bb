"""A small data set in a cache of its own."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from bench import data as sets
from bench.data import dataset


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def small(cache, monkeypatch):
    """400 rows x 8 with an attribute, named `small`; the cache is a temporary one."""
    for name, module in list(sys.modules.items()):
        if name.startswith("bench.") and hasattr(module, "CACHE"):
            monkeypatch.setattr(module, "CACHE", cache)
    monkeypatch.setattr("bench.timing._TUNED", cache / "tuned")
    generator = np.random.default_rng(1)
    data = dataset.Dataset(
        generator.standard_normal((400, 8)).astype(np.float32),
        {
            "id": np.arange(400, dtype=np.int32),
            "word": np.array([f"w{n % 7}" for n in range(400)]),
            **dataset.invented(400),
        },
        generator.standard_normal((30, 8)).astype(np.float32),
        {"word": np.array([f"w{n % 7}" for n in range(30)])},
        "small",
        ("price", "stock", "tag", "word"),
    )
    dataset.save(sets.folder("small"), data)
    return sets.load("small")
