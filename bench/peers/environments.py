"""An environment for each family of peers under bench/.cache/venvs, made when it is first needed.

An environment serves when the peer's modules can be imported in it: one that was not finished is
made again. Where this interpreter can import them, a family without an environment uses it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.data.dataset import CACHE
from bench.peers.base import Peer


class MissingError(Exception):
    """A peer cannot be had: says why."""


_CHECK = """
import importlib, importlib.metadata as m, sys
for name in sys.argv[2:]: importlib.import_module(name)
print(m.version(sys.argv[1]))
"""


def environment(peer: type[Peer], *, make: bool = True) -> tuple[str, str]:
    """Return the interpreter that runs a peer, and its version; MissingError if none can."""
    folder = CACHE / "venvs" / peer.family
    own = str(folder / "bin" / "python")
    for python in (own, sys.executable):
        version = _version(peer, python)
        if version:
            return python, version
    if not make:
        raise MissingError(
            f"{peer.name} is not installed: python -m bench run --peer {peer.name} does"
        )
    _install(peer, folder)
    version = _version(peer, own)
    if not version:
        raise MissingError(f"{peer.name} was installed in {folder} but cannot be imported there")
    return own, version


def _version(peer: type[Peer], python: str) -> str | None:
    if not Path(python).exists():
        return None
    command = [python, "-c", _CHECK, peer.packages[0].partition("==")[0], *peer.modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.returncode == 0 else None


def _install(peer: type[Peer], folder: Path) -> None:
    sys.stderr.write(f"{peer.name}: installing {' '.join(peer.packages)} …\n")
    if folder.exists() and (folder / "pyvenv.cfg").exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "numpy", *peer.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            errors = [n for n in done.stderr.splitlines() if "ERROR" in n] or ["failed"]
            raise MissingError(f"{peer.name} could not be installed: {errors[-1]}")
