"""Which table a statement goes through from end to end, where that is plain to see."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.errors import SqlglotError

from hybridq.nodes import TableName
from hybridq.sql.dialect import parse_tree, tokenize

_FEWER_OR_MORE = (
    "where",
    "joins",
    "laterals",
    "limit",
    "offset",
    "sample",
    "pivots",
    "from_",
    "with_",
)


def scanned_table(text: str) -> TableName | None:
    """Return the one table whose rows, all of them, are what the statement works on, or None."""
    try:
        tree = parse_tree(tokenize(text), text)
    except SqlglotError:
        return None
    if isinstance(tree, exp.Update):
        return None if _has(tree, *_FEWER_OR_MORE) else _named(tree.this)
    if isinstance(tree, exp.Insert | exp.Create):
        tree = tree.expression
    elif isinstance(tree, exp.Copy):
        tree = tree.this
    while isinstance(tree, exp.Select | exp.Subquery):
        if isinstance(tree, exp.Subquery):
            if _has(tree, *_FEWER_OR_MORE):
                return None
            tree = tree.this
            continue
        source = tree.args.get("from_")
        if source is None or _has(tree, *(set(_FEWER_OR_MORE) - {"from_"})):
            return None
        tree = source.this
    return _named(tree)


def _has(tree: exp.Expr, *parts: str) -> bool:
    return any(tree.args.get(part) for part in parts)


def _named(tree: exp.Expr | None) -> TableName | None:
    if not isinstance(tree, exp.Table) or _has(tree, *_FEWER_OR_MORE):
        return None
    if not isinstance(tree.this, exp.Identifier):
        return None  # a function
    return TableName(name=tree.name, schema=tree.db or None, catalog=tree.catalog or None)
