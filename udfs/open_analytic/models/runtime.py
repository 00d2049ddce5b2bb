"""Loads the shipped weights into ONNX Runtime, each once per process.

One thread a session: batches run side by side on the threads of the pipelines, and a result must
not depend on the number of cores. ONNX Runtime took .55 of torch's time for the same nets.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from hybridq.errors import OperationalError

Array = npt.NDArray[Any]

# Printed by tools/convert_models.py.
SHA256 = {
    "face_descriptor": "579367d689bda5f4494d5333961ca21dffda2aca7f9142adf6f49abd6201d5ad",
    "age_gender": "d1c1fe0682bbccf9893d5bc06ce44d40e7b2571f5b60e465a7f51f4fc801901c",
    "nanodet": "583b9f5bb1f5e65593bc6d4397d8f2f95f383a5ad342f3f4a2f3f5c04fd7b3dd",
    "voice_encoder": "31da2817c28c329ad1e3c56942d552d0b04bfaf6240b0df29bd11ff1d330ab89",
    "centerface": "1beb4690d485e8fab975c89c3156c1621ac66e43dafb468e9ca1a79237e99c1f",
    "silero_vad": "db0f3e54a968d68b45cc96b87595f572472bf41641c0750ca7a1796708877488",
    "ocr_detect": "53bc0fedcb114410784aaea44351ecac45cdd1e551f7104c4c17585b895babe5",
    "ocr_read": "a38cbebdd5e88a86b32cef979f0db37e76dabc90fac9cfde76e9f5e96b744483",
    "ocr_turn": "b5954d7f1b8aec178b92f9473ee005fd8cb73895d286e53088e7e56a5255020d",
}
"""Of the files in `weights/`, whose README says where they are from."""

_loading = threading.Lock()


class Network:
    """A loaded graph. Safe to call from several threads."""

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Plans of memory are kept for every size of input ever seen: pictures come in any size.
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Return the outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, inputs), strict=True))

    def first(self, **inputs: Array) -> Array:
        """Return the first output."""
        found: Array = self._session.run(self._outputs[:1], inputs)[0]
        return found

    def note(self, key: str) -> str:
        """Return what the graph's metadata says under `key`."""
        return str(self._session.get_modelmeta().custom_metadata_map[key])


def network(name: str) -> Network:
    """Return the network of `weights/{name}.onnx`; OperationalError if the file is not ours."""
    with _loading:  # lru_cache alone would let two threads load the same file
        return _network(name)


@functools.cache
def _network(name: str) -> Network:
    file = files("udfs.open_analytic").joinpath("weights", f"{name}.onnx")
    return Network(verified(file, SHA256[name]))


def verified(file: Any, sha256: str) -> bytes:
    """Return the bytes of a file (a path or a resource) whose sum is known."""
    try:
        data: bytes = file.read_bytes()
    except OSError as error:
        raise OperationalError(
            f"the weights {file} cannot be read: {error.strerror}", hint="reinstall the package"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise OperationalError(
            f"the weights {file} are damaged: SHA-256 differs", hint="reinstall the package"
        )
    return data


def unit(vector: Array) -> npt.NDArray[np.float32]:
    """Return `vector` divided by its length, as float32."""
    exact = vector.astype(np.float64)
    return (exact / max(float(np.linalg.norm(exact)), 1e-12)).astype(np.float32)


def _forget() -> None:
    global _loading
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
