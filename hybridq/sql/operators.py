"""Statements with distance operators, and how they read with functions in their place."""

from __future__ import annotations

from sqlglot.errors import SqlglotError

from hybridq.sql.dialect import OPERATOR_TOKENS, generate, parse_tree
from hybridq.sql.lexical import Piece


def has_operator(piece: Piece) -> bool:
    """Tell whether a distance operator occurs."""
    return any(t.token_type in OPERATOR_TOKENS for t in piece.tokens)


def rewrite_operators(piece: Piece) -> str | None:
    """Return the statement with distance operators as functions, None if it cannot be parsed."""
    try:
        tree = parse_tree(list(piece.tokens), piece.text)
    except SqlglotError:
        return None
    return generate(tree) if tree is not None else None
