"""UPDATE and DELETE of the row with a key: columns compared with parameters and constants alone."""

from __future__ import annotations

from sqlglot.tokenizer_core import Token, TokenType

from hybridq.nodes import ByKey, Computed, Constant, Given, LiteralKind
from hybridq.sql.lexical import Piece, Placeholder, apply_edits, depths, placeholders

_WORDS = {
    TokenType.NULL: LiteralKind.NULL,
    TokenType.TRUE: LiteralKind.BOOLEAN,
    TokenType.FALSE: LiteralKind.BOOLEAN,
}


def by_key(piece: Piece, at: int) -> ByKey | None:
    """Read the statement from the token behind its table on; None if it is no such one."""
    depth = depths(piece.tokens)
    found = {p.start: p for p in placeholders(piece)}
    where = next((i for i in range(at, len(depth)) if not depth[i] and piece.word(i) == "WHERE"), 0)
    if not where:
        return None
    assigned: list[tuple[str, Given | Computed]] = []
    if where != at:
        if piece.word(at) != "SET":
            return None
        for start, end in _split(piece, depth, at + 1, where, ","):
            # What calls a function or reads other rows is another matter.
            words = {piece.word(i) for i in range(start, end)}
            if _name(piece, start, end) is None or not words.isdisjoint(("(", "FROM")):
                return None
            value = _given(piece, found, start + 2, end)
            computed = value if value is not None else _computed(piece, found, start + 2, end)
            assigned.append((piece.tokens[start].text, computed))
    tests: list[tuple[str, Given]] = []
    for start, end in _split(piece, depth, where + 1, len(depth), "AND"):
        name = _name(piece, start, end)
        tested = _given(piece, found, start + 2, end)
        if name is None or tested is None:
            return None
        tests.append((name, tested))
    used = (p.name if p.index is None else p.index - 1 for p in found.values())
    return ByKey(tuple(tests), tuple(assigned), frozenset(used))


def _split(
    piece: Piece, depth: list[int], start: int, stop: int, word: str
) -> list[tuple[int, int]]:
    """Return the ranges of tokens between the commas, or the words AND, of the outermost level."""
    places = [i for i in range(start, stop) if depth[i] == 0 and piece.word(i) == word]
    return list(zip([start, *(i + 1 for i in places)], [*places, stop], strict=True))


def _name(piece: Piece, start: int, end: int) -> str | None:
    """Return the column that `column = …` begins with."""
    if end - start < 3 or piece.word(start + 1) != "=":
        return None
    token = piece.tokens[start]
    quoted = token.token_type == TokenType.IDENTIFIER
    return token.text if quoted or token.text.isidentifier() else None


def _given(piece: Piece, found: dict[int, Placeholder], start: int, end: int) -> Given | None:
    tokens = piece.tokens[start:end]
    if not tokens:
        return None
    parameter = found.get(tokens[0].start)
    if parameter is not None:
        if parameter.end != tokens[-1].end + 1:
            return None
        return parameter.name if parameter.index is None else parameter.index - 1
    return _constant(piece, tokens)


def _computed(piece: Piece, found: dict[int, Placeholder], start: int, end: int) -> Computed:
    first, stop = piece.tokens[start].start, piece.tokens[end - 1].end + 1
    inside = [p for p in found.values() if first <= p.start < stop]
    edits = [(p.start - first, p.end - first, f"${p.name}") for p in inside]
    words = [
        token.text.lower()
        for token in piece.tokens[start:end]
        if token.token_type == TokenType.IDENTIFIER or token.text.isidentifier()
        if token.token_type != TokenType.STRING
        if not any(p.start <= token.start < p.end for p in inside)
    ]
    return Computed(apply_edits(piece.text[first:stop], edits), frozenset(words))


def _constant(piece: Piece, tokens: tuple[Token, ...]) -> Constant | None:
    last = tokens[-1]
    if last.token_type == TokenType.NUMBER:
        sign = "".join(t.text for t in tokens[:-1])
        whole = last.text.isascii() and last.text.isdigit()
        return (
            Constant(LiteralKind.INTEGER, sign + last.text) if sign in ("", "-") and whole else None
        )
    if len(tokens) > 1:
        return None
    if last.token_type == TokenType.STRING:
        text = piece.text[last.start : last.end + 1]
        plain = text.startswith("'") and text.endswith("'")
        return Constant(LiteralKind.STRING, text[1:-1].replace("''", "'")) if plain else None
    kind = _WORDS.get(last.token_type)
    return Constant(kind, last.text.lower()) if kind is not None else None
