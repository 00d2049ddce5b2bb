"""BERT's uncased tokenizer (Devlin et al., NAACL 2019, §3; Wu et al., arXiv:1609.08144, §4.1)."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from importlib.resources import files

_LONGEST_WORD = 100  # characters: a longer one is unknown
UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"

# Blocks whose signs are words of their own.
_IDEOGRAPHS = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)


@functools.cache
def vocabulary() -> dict[str, int]:
    """Return the 30,522 pieces with their numbers."""
    file = files("udfs.open_analytic").joinpath("weights", "wordpiece_vocabulary.txt")
    return {piece: number for number, piece in enumerate(file.read_text("utf-8").split("\n"))}


def tokens(text: str) -> list[int]:
    """Return the numbers of the pieces of `text`, without the marks of its start and end."""
    known = vocabulary()
    return [known[piece] for word in _words(text) for piece in _pieces(word, known)]


def _words(text: str) -> Iterator[str]:
    spaced = "".join(_separated(text))
    for word in spaced.split():
        plain = unicodedata.normalize("NFD", word.lower())
        bare = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        yield from _split_at_punctuation(bare)


def _separated(text: str) -> Iterator[str]:
    """Yield the characters, control characters left out and ideographs between spaces."""
    for c in text:
        code = ord(c)
        if c.isspace():
            yield " "
        elif code == 0 or code == 0xFFFD or unicodedata.category(c).startswith("C"):
            continue
        elif any(first <= code <= last for first, last in _IDEOGRAPHS):
            yield f" {c} "
        else:
            yield c


def _split_at_punctuation(word: str) -> Iterator[str]:
    start = 0
    for at, c in enumerate(word):
        if _is_punctuation(c):
            if at > start:
                yield word[start:at]
            yield c
            start = at + 1
    if start < len(word):
        yield word[start:]


def _is_punctuation(c: str) -> bool:
    # All of ASCII that is neither letter nor digit counts, such as $ and ^.
    return unicodedata.category(c).startswith("P") or (c.isascii() and not c.isalnum())


def _pieces(word: str, known: dict[str, int]) -> list[str]:
    """Return the longest pieces from the left; the unknown piece where that fails."""
    if len(word) > _LONGEST_WORD:
        return [UNKNOWN]
    found: list[str] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in known:
                found.append(prefix + word[start:end])
                start = end
                break
        else:
            return [UNKNOWN]
    return found
