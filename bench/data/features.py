"""Features of many images by SQL, kept a part at a time: a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import hybridq

_PART = 500


def features(images: Sequence[bytes], folder: Path, name: str) -> npt.NDArray[np.float32]:
    """Return `extract_feature` of every image, (n, d); parts that are in `folder` are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[npt.NDArray[np.float32]] = []
    started, made = time.perf_counter(), 0
    with hybridq.connect() as con:
        for at in range(0, len(images), _PART):
            part = images[at : at + _PART]
            digest = hashlib.sha256(b"".join(hashlib.sha256(i).digest() for i in part))
            file = folder / f"{digest.hexdigest()[:20]}.npy"
            if not file.exists():
                con.execute("CREATE OR REPLACE TEMP TABLE images (n INT, image BLOB)")
                con.executemany("INSERT INTO images VALUES (?, ?)", list(enumerate(part)))
                rows = con.execute(
                    "SELECT extract_feature(image) FROM images ORDER BY n"
                ).fetchall()
                unfinished = folder / "unfinished.npy"
                np.save(unfinished, np.array([row[0] for row in rows], np.float32))
                unfinished.rename(file)
                made += len(part)
                rate = made / (time.perf_counter() - started)
                done = at + len(part)
                sys.stderr.write(f"\r{name}: {done:,} of {len(images):,} images, {rate:.0f}/s ")
            found.append(np.load(file))
    if made:
        sys.stderr.write("\n")
    return np.concatenate(found)
