"""Find `read_blob(…)` in statements that hand its content to an image function."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from sqlglot.errors import SqlglotError

from hybridq.sql.lexical import closing, piece_of


@dataclass(frozen=True, slots=True)
class BlobCall:
    """One call: its span in the text and the text of its arguments."""

    start: int
    end: int
    arguments: str


def blob_calls(text: str, image_functions: Set[str]) -> list[BlobCall]:
    """Return the read_blob calls of a statement, none if it mentions no image function."""
    try:
        piece = piece_of(text)
    except SqlglotError:
        return []
    words = [piece.word(i) for i in range(len(piece.tokens))]
    if not any(w in image_functions for w in words):
        return []
    calls: list[BlobCall] = []
    for i, word in enumerate(words):
        if word == "READ_BLOB" and piece.word(i + 1) == "(":
            end = closing(piece.tokens, i + 1)
            if end is None:
                continue
            inner = text[piece.tokens[i + 1].end + 1 : piece.tokens[end].start]
            calls.append(BlobCall(piece.tokens[i].start, piece.tokens[end].end + 1, inner))
    return calls
