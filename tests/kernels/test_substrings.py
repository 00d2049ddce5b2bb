"""Texts that contain some bytes, against Python's `in`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybridq.kernels import substrings
from tests.kernels.cases import FAST

TEXTS = st.lists(st.binary(max_size=90).map(lambda b: bytes(c % 3 for c in b)), max_size=30)


@FAST
@given(TEXTS, st.binary(min_size=1, max_size=5).map(lambda b: bytes(c % 3 for c in b)))
def test_texts_that_contain_it_are_marked(texts, wanted):
    ends = np.cumsum([0, *map(len, texts)])
    # Bytes before the first text and after the last belong to none.
    data = np.frombuffer(wanted + b"".join(texts) + wanted, np.uint8)
    found = np.zeros(len(texts), np.uint8)
    given_ = data, ends + len(wanted), np.frombuffer(wanted, np.uint8), found
    substrings.mark_containing(*given_)
    assert found.tolist() == [wanted in text for text in texts]
