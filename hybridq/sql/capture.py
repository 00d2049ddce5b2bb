"""What INSERT, UPDATE, DELETE and MERGE change, told from their tokens.

The statement itself stays verbatim: the session appends `RETURNING key` to it. Whatever cannot be
told for certain (a key that is assigned, a target that is not a plain name) makes the write opaque,
which is slower and never wrong.
"""

from __future__ import annotations

from sqlglot.tokenizer_core import TokenType

from hybridq.nodes import SingleValues, TableName, Write
from hybridq.sql.keyed import by_key
from hybridq.sql.lexical import Piece, closing, depths, placeholders

_NAMES = (TokenType.VAR, TokenType.IDENTIFIER)
_CONSTANTS = (
    TokenType.NUMBER,
    TokenType.STRING,
    TokenType.NULL,
    TokenType.TRUE,
    TokenType.FALSE,
)
_QUERIES = ("SELECT", "FROM", "WITH", "VALUES", "TABLE", "EXISTS")
_BEFORE_PARENTHESES = ("WHERE", "AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "ILIKE")
_VERBS = ("INSERT", "UPDATE", "DELETE", "MERGE")


def table_at(piece: Piece, i: int) -> tuple[TableName, int] | None:
    """Read `[catalog.][schema.]name` at token `i`; returns it and the index after it."""
    parts: list[str] = []
    while i < len(piece.tokens):
        token = piece.tokens[i]
        quoted = token.token_type == TokenType.IDENTIFIER
        if not quoted and not token.text.isidentifier():
            return None
        parts.append(token.text)
        i += 1
        if i < len(piece.tokens) and piece.tokens[i].token_type == TokenType.DOT:
            i += 1
            continue
        break
    if not 1 <= len(parts) <= 3:
        return None
    padded = [None] * (3 - len(parts)) + parts
    return TableName(catalog=padded[0], schema=padded[1], name=parts[-1]), i


def write_of(piece: Piece) -> Write | None:
    """Return the write that `piece` is, None where its target or shape is not certain."""
    depth = depths(piece.tokens)
    verbs = [
        i
        for i, token in enumerate(piece.tokens)
        if depth[i] == 0 and piece.word(i) in _VERBS and token.token_type != TokenType.VAR
    ]
    has_with = piece.word(0) == "WITH"
    if not verbs or (verbs[0] != 0 and not has_with):
        return None
    start = verbs[0]
    kind = piece.word(start)
    at = start + 1
    replaces = False
    if kind in ("INSERT", "MERGE"):
        if piece.word(at) == "OR":
            replaces = True
            at += 2
        if piece.word(at) != "INTO":
            return None
        at += 1
    elif kind == "DELETE":
        if piece.word(at) != "FROM":
            return None
        at += 1
    if has_with and _writes_inside(piece, depth):
        return None
    found = table_at(piece, at)
    if found is None:
        return None
    table, after = found
    returning = any(
        token.token_type == TokenType.RETURNING and depth[i] == 0
        for i, token in enumerate(piece.tokens)
    )
    columns, body = _columns(piece, after) if kind == "INSERT" else (None, after)
    adds_only = (
        kind == "INSERT"
        and not replaces
        and not any(depth[i] == 0 and piece.word(i) == "CONFLICT" for i in range(after, len(depth)))
    )
    return Write(
        kind=kind,
        table=table,
        text=piece.text,
        has_returning=returning,
        assigned=_merged(piece, depth, after)
        if kind == "MERGE"
        else _assigned(piece, depth, after),
        adds_only=adds_only,
        inserts_query=adds_only and piece.word(body) not in ("VALUES", "DEFAULT"),
        has_with=has_with,
        columns=columns,
        single_values=None if has_with else _single_values(piece, depth, body, kind),
        rows=_rows(piece, depth, start) if kind == "UPDATE" and not has_with else None,
        by_key=by_key(piece, after) if kind in ("UPDATE", "DELETE") and not has_with else None,
    )


def _writes_inside(piece: Piece, depth: list[int]) -> bool:
    return any(
        depth[i] > 0 and piece.word(i) in _VERBS and piece.tokens[i].token_type not in _NAMES
        for i in range(len(piece.tokens))
    )


def _columns(piece: Piece, at: int) -> tuple[tuple[str, ...] | None, int]:
    """Read `(a, b)` after an INSERT's table, if it is a column list."""
    if piece.word(at) == "AS":
        at += 2
    if piece.word(at) != "(":
        return None, at
    end = closing(piece.tokens, at)
    if end is None or piece.word(at + 1) in ("SELECT", "WITH", "VALUES", "FROM"):
        return None, at
    names = tuple(t.text for t in piece.tokens[at + 1 : end] if t.token_type != TokenType.COMMA)
    return names, end + 1


def _assigned(piece: Piece, depth: list[int], start: int) -> frozenset[str]:
    """Return the columns that SET assigns (of an UPDATE, or of ON CONFLICT DO UPDATE).

    What stands before any `=` counts, so comparisons may add names, and none is missing.
    """
    names: set[str] = set()
    setting = False
    for i in range(start, len(piece.tokens)):
        if depth[i] != 0:
            continue
        word = piece.word(i)
        if word == "SET" and not setting:
            setting = True
        elif setting and (
            word in ("WHERE", "RETURNING") or (word == "FROM" and piece.word(i - 1) != "DISTINCT")
        ):
            setting = False
        elif setting and word == "=":
            names.update(_targets(piece, i - 1))
        elif word == "*" and piece.word(i - 1) == "SET":
            names.add("*")
    return frozenset(names)


def _merged(piece: Piece, depth: list[int], start: int) -> frozenset[str]:
    """Return the columns that MERGE's UPDATE actions assign, "*" for one that names none."""
    names: set[str] = set()
    top = [i for i in range(start, len(piece.tokens)) if depth[i] == 0]
    actions = [i for i in top if piece.word(i - 1) == "THEN" and piece.word(i) == "UPDATE"]
    for action in actions:
        stop = next(
            (i for i in top if i > action and piece.word(i) in ("WHEN", "RETURNING")),
            len(piece.tokens),
        )
        assignments = [i for i in top if action < i < stop and piece.word(i) == "="]
        if piece.word(action + 1) != "SET" or not assignments:
            names.add("*")
        for i in assignments:
            names.update(_targets(piece, i - 1))
    return frozenset(names)


def _targets(piece: Piece, end: int) -> set[str]:
    """Return the column, or the columns of `(a, b)`, that end at the token `end`."""
    token = piece.tokens[end]
    if token.token_type == TokenType.R_PAREN:
        return _row_targets(piece, end)
    return {token.text.lower()}


def _row_targets(piece: Piece, end: int) -> set[str]:
    """`SET (a, b) = (…)`: the names inside the parentheses that close at `end`."""
    names: set[str] = set()
    i = end - 1
    while i >= 0 and piece.word(i) != "(":
        if piece.tokens[i].token_type != TokenType.COMMA:
            names.add(piece.tokens[i].text.lower())
        i -= 1
    return names


def _rows(piece: Piece, depth: list[int], start: int) -> str | None:
    """Return `FROM table [WHERE condition]` of an UPDATE, see `Write.rows`."""
    top = {piece.word(i): i for i in reversed(range(len(depth))) if depth[i] == 0}
    at, where, end = top.get("SET"), top.get("WHERE"), top.get("RETURNING", len(depth))
    if at is None or ("FROM" in top and piece.word(top["FROM"] - 1) != "DISTINCT"):
        return None
    text = "FROM " + piece.text[piece.tokens[start + 1].start : piece.tokens[at - 1].end + 1]
    if where is None:
        return text
    for i in range(where + 1, end):
        if piece.word(i) in _QUERIES or (piece.word(i) == "(" and _calls(piece, i - 1)):
            return None
    condition, done = "", piece.tokens[where].start
    stop = piece.tokens[end - 1].end + 1
    for parameter in placeholders(piece):
        if done <= parameter.start < stop:
            condition += f"{piece.text[done : parameter.start]}${parameter.name}"
            done = parameter.end
    return f"{text} {condition}{piece.text[done:stop]}"


def _calls(piece: Piece, i: int) -> bool:
    return piece.word(i).isidentifier() and piece.word(i) not in _BEFORE_PARENTHESES


def _single_values(piece: Piece, depth: list[int], at: int, kind: str) -> SingleValues | None:
    """Cut `INSERT … VALUES (row)` into head, row and tail."""
    if kind != "INSERT" or piece.word(at) != "VALUES" or piece.word(at + 1) != "(":
        return None
    end = closing(piece.tokens, at + 1)
    if end is None or piece.word(end + 1) == ",":
        return None
    words = {piece.word(i) for i in range(at, end)}
    if "DEFAULT" in words:
        return None
    tokens = piece.tokens
    return SingleValues(
        head=piece.text[: tokens[at].start],
        row=piece.text[tokens[at + 1].end + 1 : tokens[end].start],
        tail=piece.text[tokens[end].end + 1 :],
        given=_given(piece, depth, at + 2, end) if end + 1 == len(tokens) else None,
    )


def _given(
    piece: Piece, depth: list[int], start: int, end: int
) -> tuple[int | str | None, ...] | None:
    """Return `SingleValues.given` of the values at the tokens `start` … `end` - 1."""
    tokens = piece.tokens
    found = {p.start: p for p in placeholders(piece)}
    if any(p.start < tokens[start].start for p in found.values()):
        return None
    given: list[int | str | None] = []
    first = start
    for i in range(start, end + 1):
        if i < end and (tokens[i].token_type != TokenType.COMMA or depth[i] != depth[start]):
            continue
        value = tokens[first:i]
        parameter = found.get(value[0].start) if value else None
        if parameter is not None:
            if parameter.end != value[-1].end + 1:
                return None
            given.append(parameter.name if parameter.index is None else parameter.index - 1)
        elif len(value) == 1 and value[0].token_type in _CONSTANTS:
            given.append(None)
        else:
            return None
        first = i + 1
    return tuple(given)
