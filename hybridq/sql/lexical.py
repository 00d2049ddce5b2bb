"""Work on tokens alone: splitting scripts, naming parameters, small edits of the text.

Everything here keeps the text between its edits as it was written: what is DuckDB's must reach
DuckDB verbatim. Positions are offsets into the text; token ends are inclusive, as sqlglot's are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot.tokenizer_core import Token, TokenType

from hybridq.sql.dialect import tokenize

Edit = tuple[int, int, str]
"""(start, end exclusive, replacement)."""

_OPEN = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE}
_CLOSE = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END}
_VALUE_ENDS = {
    TokenType.NUMBER,
    TokenType.STRING,
    TokenType.VAR,
    TokenType.IDENTIFIER,
    TokenType.R_BRACKET,
    TokenType.R_PAREN,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement: its text, its tokens, whose offsets refer to it, its start in the script."""

    text: str
    tokens: tuple[Token, ...]
    start: int = 0

    def word(self, index: int) -> str:
        """Return the token at `index` in upper case, '' past the end or for quoted text."""
        if index >= len(self.tokens):
            return ""
        token = self.tokens[index]
        if token.token_type in (TokenType.IDENTIFIER, TokenType.STRING):
            return ""
        return token.text.upper()


def piece_of(text: str) -> Piece:
    """Tokenize one statement; raises SqlglotError."""
    return Piece(text, tuple(tokenize(text)))


def split_script(text: str) -> list[Piece]:
    """Split `text` at top-level semicolons into statements without them; raises SqlglotError."""
    tokens = tokenize(text)
    pieces: list[Piece] = []
    current: list[Token] = []
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            if current:
                pieces.append(_piece(text, current, token.start))
            current = []
        else:
            current.append(token)
    if current:
        pieces.append(_piece(text, current, len(text)))
    return pieces


def _piece(text: str, tokens: list[Token], stop: int) -> Piece:
    start = tokens[0].start
    body = text[start:stop].rstrip()
    if len(tokens) == 0 or start == 0:
        return Piece(body, tuple(tokens))
    return Piece(body, tuple(tokenize(body)), start)


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return `text` with non-overlapping `edits` made."""
    out: list[str] = []
    at = 0
    for start, end, replacement in sorted(edits):
        out.append(text[at:start])
        out.append(replacement)
        at = end
    out.append(text[at:])
    return "".join(out)


def depths(tokens: Sequence[Token]) -> list[int]:
    """Return the nesting depth of each token; brackets and CASE … END belong to the outer depth."""
    result: list[int] = []
    depth = 0
    for token in tokens:
        if token.token_type in _CLOSE:
            depth = max(0, depth - 1)
        result.append(depth)
        if token.token_type in _OPEN:
            depth += 1
    return result


def with_sort_keys(select: str, keys: Sequence[str]) -> str:
    """Return a select that has ORDER BY and LIMIT with further sort keys."""
    tokens = tokenize(select)
    depth = depths(tokens)
    ordered = False
    for i, token in enumerate(tokens):
        if depth[i] == 0 and token.token_type == TokenType.ORDER_BY:
            ordered = True
        elif depth[i] == 0 and ordered and token.token_type in (TokenType.LIMIT, TokenType.OFFSET):
            stop = tokens[i - 1].end + 1
            return f"{select[:stop]}, {', '.join(keys)}{select[stop:]}"
    return select


def closing(tokens: Sequence[Token], opening: int) -> int | None:
    """Return the index of the bracket that closes the one at `opening`."""
    depth = 0
    for index in range(opening, len(tokens)):
        kind = tokens[index].token_type
        if kind in _OPEN and kind != TokenType.CASE:
            depth += 1
        elif kind in _CLOSE and kind != TokenType.END:
            depth -= 1
            if depth == 0:
                return index
    return None


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One parameter of the text: its span and its name; `index` counts from 1 where positional."""

    start: int
    end: int
    name: str
    index: int | None


def placeholders(piece: Piece) -> Iterator[Placeholder]:
    """Yield the parameters of a statement in order of their text.

    `:name` counts only where a value may stand, so that slices and structs stay what they are.
    """
    tokens = piece.tokens
    count = 0
    for i, token in enumerate(tokens):
        follower = tokens[i + 1] if i + 1 < len(tokens) else None
        adjacent = follower is not None and follower.start == token.end + 1
        if token.token_type == TokenType.PLACEHOLDER:
            count += 1
            yield Placeholder(token.start, token.end + 1, f"hq{count}", count)
        elif token.token_type == TokenType.PARAMETER and follower is not None and adjacent:
            name = follower.text
            if follower.token_type == TokenType.NUMBER:
                yield Placeholder(token.start, follower.end + 1, f"hq{name}", int(name))
            else:
                yield Placeholder(token.start, follower.end + 1, name, None)
        elif (
            token.token_type == TokenType.COLON
            and follower is not None
            and adjacent
            and follower.token_type not in (TokenType.NUMBER, TokenType.STRING)
            and follower.text.isidentifier()
            and (i == 0 or tokens[i - 1].token_type not in _VALUE_ENDS)
        ):
            yield Placeholder(token.start, follower.end + 1, follower.text, None)


def colon_edits(piece: Piece) -> list[Edit]:
    """`:name` -> `$name`, which is how DuckDB spells it."""
    return [
        (p.start, p.end, f"${p.name}")
        for p in placeholders(piece)
        if p.index is None and piece.text[p.start] == ":"
    ]


def named(piece: Piece) -> tuple[str, tuple[str, ...]]:
    """Return the text with every parameter as `$name`, and the names in order of appearance."""
    found = list(placeholders(piece))
    text = apply_edits(piece.text, [(p.start, p.end, f"${p.name}") for p in found])
    return text, tuple(dict.fromkeys(p.name for p in found))


def type_edits(piece: Piece) -> list[Edit]:
    """Spellings of vectors that DuckDB does not know.

    vector(3) -> FLOAT[3];  x::vector -> x::FLOAT[];  '{1,2}'::real[] -> '[1,2]'::real[];
    CAST(TRANSLATE(…) AS REAL[]) -> CAST(translate(TRANSLATE(…), '{}', '[]') AS REAL[]).
    """
    tokens = piece.tokens
    edits: list[Edit] = []
    for i, token in enumerate(tokens):
        word = piece.word(i)
        if word == "VECTOR":
            edits.extend(_vector_type(piece, i))
        elif token.token_type == TokenType.STRING and token.text.strip().startswith("{"):
            inner = token.text.strip()
            if inner.endswith("}") and _cast_to_float_list(piece, i + 1):
                edits.append((token.start, token.end + 1, "'[" + inner[1:-1] + "]'"))
        elif word == "TRANSLATE" and piece.word(i + 1) == "(":
            end = closing(tokens, i + 1)
            if end is not None and _cast_to_float_list(piece, end + 1):
                call = piece.text[token.start : tokens[end].end + 1]
                edits.append((token.start, tokens[end].end + 1, f"translate({call}, '{{}}', '[]')"))
    return edits


def _vector_type(piece: Piece, i: int) -> Iterator[Edit]:
    token = piece.tokens[i]
    before = piece.word(i - 1) if i else ""
    if (
        piece.word(i + 1) == "("
        and i + 3 < len(piece.tokens)
        and piece.tokens[i + 2].token_type == TokenType.NUMBER
        and piece.word(i + 3) == ")"
    ):
        size = piece.tokens[i + 2].text
        yield (token.start, piece.tokens[i + 3].end + 1, f"FLOAT[{size}]")
    elif before == "::" or (before == "AS" and piece.word(i + 1) == ")"):
        yield (token.start, token.end + 1, "FLOAT[]")


def _cast_to_float_list(piece: Piece, i: int) -> bool:
    """Tell whether a cast to a list of floats follows: `:: REAL [` or `AS REAL [`."""
    return (
        piece.word(i) in ("::", "AS")
        and piece.word(i + 1) in ("REAL", "FLOAT", "FLOAT4", "DOUBLE", "FLOAT8")
        and piece.word(i + 2) == "["
    )


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the position of `offset` in `text`, both counted from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


@lru_cache(maxsize=1024)
def used_parameters(text: str) -> tuple[str, ...]:
    """Return the names of the parameters in `text`, whose parameters are all named."""
    return tuple(dict.fromkeys(p.name for p in placeholders(piece_of(text))))
