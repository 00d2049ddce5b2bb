"""Reads the weights of a network from a file of the user's: .safetensors, or torch's own format.

Nothing in a file is executed: torch reads its format with `weights_only`, and safetensors is a
JSON header followed by raw numbers. Imports torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any, Final

import torch

from hybridq.errors import DataError, OperationalError
from udfs.image.convolutions import Weights

_DTYPES: Final = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}
_LONGEST_HEADER: Final = 100 << 20
_NESTED: Final = ("state_dict", "model", "model_state_dict")


def digest(path: str) -> str:
    """Return the first 16 digits of a file's SHA-256; OperationalError where it cannot be read."""
    file = Path(path).expanduser()
    try:
        state = file.stat()
        return _digest(str(file), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise _unreadable(path, error) from error


@functools.lru_cache(maxsize=64)
def _digest(path: str, size: int, modified_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _unreadable(path: str, error: OSError) -> OperationalError:
    return OperationalError(
        f'the weights "{path}" cannot be read: {error.strerror or error}',
        hint="give the path of a .pth, .pt or .safetensors file on this machine",
    )


def read(path: str) -> Weights:
    """Return the tensors of a file, float32; DataError says what is wrong with its contents."""
    file = Path(path).expanduser()
    try:
        if file.suffix == ".safetensors":
            found = _safetensors(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (
        *(RuntimeError, ValueError, KeyError, TypeError, EOFError),
        *(pickle.UnpicklingError, struct.error),
    ) as error:
        raise DataError(
            f'the weights "{path}" are damaged or of an unknown format: {_first_line(error)}',
            hint="give a state_dict saved by torch.save, or a .safetensors file",
        ) from error
    return _flat(path, found)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _flat(path: str, found: Any) -> Weights:
    for name in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict):
        raise DataError(f'the weights "{path}" hold a {type(found).__name__}, not a state_dict')
    return {
        str(name).removeprefix("module."): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in found.items()
        if isinstance(tensor, torch.Tensor)
    }


def _safetensors(file: Path) -> Weights:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > _LONGEST_HEADER:
            raise ValueError("its header is too long")
        header = json.loads(stream.read(length))
        data = bytearray(stream.read())
    tensors: Weights = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        dtype, (begin, end) = _DTYPES[about["dtype"]], about["data_offsets"]
        if not 0 <= begin <= end <= len(data):
            raise ValueError(f"{name} lies outside the file")
        flat = torch.frombuffer(data[begin:end], dtype=dtype) if end > begin else torch.empty(0)
        tensors[name] = flat.reshape(about["shape"])
    return tensors
