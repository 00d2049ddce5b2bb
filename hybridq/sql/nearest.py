"""DuckDB's NEAREST joins, read as the LATERAL selects that they mean.

    q JOIN items t APPROX NEAREST 3 BY DISTANCE array_distance(q.v, t.v)
    ->  q JOIN LATERAL (SELECT t.* FROM items AS t
                        ORDER BY array_distance(q.v, t.v) LIMIT 3) AS t ON true

APPROX is answered to the session's recall, EXACT exactly.
"""

from __future__ import annotations

from sqlglot.tokenizer_core import TokenType

from hybridq.sql.capture import table_at
from hybridq.sql.dialect import OPERATOR_TOKENS
from hybridq.sql.lexical import Edit, Piece, apply_edits, closing, piece_of


def as_lateral(piece: Piece) -> Piece | None:
    """Return the statement with every NEAREST join as LATERAL; None if it has none we can read."""
    edits: list[Edit] = []
    for i in range(len(piece.tokens)):
        if piece.word(i) == "NEAREST" and piece.tokens[i].token_type == TokenType.VAR:
            edit = _edit(piece, i)
            if edit is not None:
                edits.append(edit)
    return piece_of(apply_edits(piece.text, edits)) if edits else None


def _edit(piece: Piece, at: int) -> Edit | None:
    tokens = piece.tokens
    i = at + 1
    limit = "1"
    if i < len(tokens) and tokens[i].token_type == TokenType.NUMBER:
        limit = tokens[i].text
        i += 1
    if piece.word(i) != "BY" or piece.word(i + 1) not in ("DISTANCE", "SIMILARITY"):
        return None
    descending = " DESC" if piece.word(i + 1) == "SIMILARITY" else ""
    last = _expression_end(piece, i + 2)
    table = _table(piece, at)
    if last is None or table is None:
        return None
    first, name, alias, exact = table
    expression = piece.text[tokens[i + 2].start : tokens[last].end + 1]
    hint = "/*+ recall(1) */ " if exact else ""
    text = (
        f"LATERAL (SELECT {hint}{alias}.* FROM {name} AS {alias} "
        f"ORDER BY {expression}{descending} LIMIT {limit}) AS {alias} ON true"
    )
    return tokens[first].start, tokens[last].end + 1, text


def _table(piece: Piece, at: int) -> tuple[int, str, str, bool] | None:
    """Return the first token of the table before NEAREST, its name, its alias, whether EXACT."""
    stop = at
    mode = piece.word(at - 1)
    if mode in ("APPROX", "EXACT"):
        stop -= 1
    first = stop
    while first > 0 and piece.word(first - 1) != "JOIN":
        first -= 1
        if stop - first > 7:
            return None
    found = table_at(piece, first)
    if first == 0 or found is None:
        return None
    after = found[1]
    name = piece.text[piece.tokens[first].start : piece.tokens[after - 1].end + 1]
    alias = piece.text[piece.tokens[after - 1].start : piece.tokens[after - 1].end + 1]
    if piece.word(after) == "AS":
        after += 1
    if after == stop - 1:
        alias = piece.text[piece.tokens[after].start : piece.tokens[after].end + 1]
    elif after != stop:
        return None
    return first, name, alias, mode == "EXACT"


def _expression_end(piece: Piece, start: int) -> int | None:
    """Return the last token of `function(…)` or `a.v <-> b.v`; None for anything else."""
    if piece.word(start + 1) == "(":
        end = closing(piece.tokens, start + 1)
    else:
        left = table_at(piece, start)
        if left is None or left[1] >= len(piece.tokens):
            return None
        if piece.tokens[left[1]].token_type not in OPERATOR_TOKENS:
            return None
        right = table_at(piece, left[1] + 1)
        end = right[1] - 1 if right is not None else None
    if end is None:
        return None
    following = piece.tokens[end + 1].token_type if end + 1 < len(piece.tokens) else None
    ends = following in _AFTER or piece.word(end + 1) in ("", ")", ",")
    return end if ends else None


_AFTER = {
    TokenType.WHERE,
    TokenType.GROUP_BY,
    TokenType.ORDER_BY,
    TokenType.HAVING,
    TokenType.QUALIFY,
    TokenType.WINDOW,
    TokenType.LIMIT,
    TokenType.OFFSET,
    TokenType.UNION,
    TokenType.INTERSECT,
    TokenType.EXCEPT,
    TokenType.JOIN,
    TokenType.LEFT,
    TokenType.INNER,
    TokenType.CROSS,
    TokenType.SELECT,
}
