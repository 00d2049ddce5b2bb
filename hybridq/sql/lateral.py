"""Recognise a TopK for each row: `FROM q, LATERAL (SELECT … ORDER BY t.v <-> q.v LIMIT 5) n`.

The select in parentheses becomes a TopK whose outer columns are parameters, and what stands before
LATERAL in its FROM a query that gives their values. What cannot be told from the text is left to
DuckDB, with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from hybridq.nodes import (
    DistanceItem,
    ExpressionItem,
    Item,
    OuterColumn,
    PerRow,
    TableName,
    TopK,
)
from hybridq.sql.dialect import parse_tree
from hybridq.sql.lexical import Edit, Piece, apply_edits, closing, depths, named, piece_of
from hybridq.sql.operators import has_operator, rewrite_operators
from hybridq.sql.slices import Slices, Span
from hybridq.sql.topk import NotTopK, recognise

_PREFIX = "hqouter"
_OUTER = re.compile(rf"\${_PREFIX}(\d+)\b")
_RANDOM = ("SAMPLE", "TABLESAMPLE")
_SOME = ("LIMIT", "OFFSET", "FETCH", "DISTINCT", "QUALIFY")
_AFTER_WHERE = {
    TokenType.GROUP_BY,
    TokenType.ORDER_BY,
    TokenType.HAVING,
    TokenType.QUALIFY,
    TokenType.WINDOW,
    TokenType.LIMIT,
    TokenType.OFFSET,
    TokenType.FETCH,
    TokenType.UNION,
    TokenType.INTERSECT,
    TokenType.EXCEPT,
    TokenType.TABLE_SAMPLE,
    TokenType.SELECT,
    TokenType.SEMICOLON,
}
_NO_CALLS = frozenset(("in", "and", "or", "not", "any", "all"))


class _Reject(Exception):  # noqa: N818 - control flow inside this module
    """Leaves recognition with a reason."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What stands before a LATERAL in its FROM."""

    text: str
    with_text: str
    aliases: frozenset[str]
    tables: tuple[TableName, ...]
    functions: frozenset[str]
    some: bool


def is_lateral(piece: Piece, opening: int) -> bool:
    """Tell whether the parenthesis at `opening` is that of a LATERAL select."""
    return opening > 0 and piece.word(opening - 1) == "LATERAL"


def recognise_per_row(
    piece: Piece, opening: int, ending: int, cte_names: frozenset[str]
) -> PerRow | NotTopK | None:
    """Recognise the LATERAL select between two parentheses; None if it reads no outer row."""
    tokens = piece.tokens
    inner = piece_of(piece.text[tokens[opening + 1].start : tokens[ending - 1].end + 1])
    try:
        return _recognise(piece, opening - 1, ending, inner, cte_names)
    except _Reject as reject:
        return NotTopK(str(reject))


def _recognise(
    piece: Piece, lateral: int, ending: int, inner: Piece, cte_names: frozenset[str]
) -> PerRow | NotTopK | None:
    depth = depths(piece.tokens)
    source = _source(piece, depth, lateral, inner, cte_names)
    tree = parse_tree(list(inner.tokens), inner.text)
    if not isinstance(tree, exp.Select):
        raise _Reject("the LATERAL select is not a plain SELECT")
    shadowed = {s.alias_or_name.lower() for s in tree.find_all(exp.Table, exp.Subquery)}
    edits, outer = _outer_columns(inner, source.aliases - shadowed)
    if not outer:
        return None
    text = apply_edits(inner.text, edits)
    found = recognise(piece_of(text), cte_names=cte_names)
    if isinstance(found, NotTopK):
        return found
    if source.aliases & (shadowed - {(found.table.alias or found.table.name).lower()}):
        raise _Reject("a subquery of the LATERAL select takes a name of the rows around it")
    where, perhaps = _conjuncts(piece, depth, lateral, ending, source.aliases)
    _, used = named(piece_of(text))
    own = rewrite_operators(inner) if has_operator(inner) else inner.text
    if own is None:
        raise _Reject("the LATERAL select could not be parsed")
    return PerRow(
        topk=replace(found, items=_labelled(found, outer), parameters=used),
        outer=outer,
        text=own,
        with_text=source.with_text,
        source=source.text,
        tables=source.tables,
        functions=source.functions,
        some=source.some,
        where=where,
        perhaps=perhaps,
    )


# -- the rows before it --------------------------------------------------------


def _source(
    piece: Piece, depth: Sequence[int], lateral: int, inner: Piece, cte_names: frozenset[str]
) -> _Source:
    stop = _before_join(piece, lateral)
    start = stop
    while start >= 0 and not (
        depth[start] == depth[lateral]
        and piece.tokens[start].token_type == TokenType.FROM
        and piece.word(start - 1) != "DISTINCT"
    ):
        if depth[start] < depth[lateral]:
            raise _Reject("what stands before LATERAL could not be told")
        start -= 1
    if start < 0:
        raise _Reject("what stands before LATERAL could not be told")
    first = start + 1
    source = _described(piece, first, stop)
    others = [i for i in range(first, stop) if piece.word(i) == "LATERAL"]
    if others:
        # Rows before an earlier LATERAL do, if nothing of that one is read.
        cut = _described(piece, first, _before_join(piece, others[0]))
        if any(q in source.aliases - cut.aliases for q in _qualifiers(inner)):
            raise _Reject("it reads another LATERAL select")
        source = cut
    mentioned = {t.name.lower() for t in source.tables if t.schema is None}
    if not mentioned & cte_names:
        return source
    with_text, known, functions = _ctes_before(piece, lateral)
    if (mentioned & cte_names) - known:
        raise _Reject("it reads a WITH query that is not complete before it")
    return replace(
        source,
        with_text=with_text,
        tables=tuple(t for t in source.tables if t.schema or t.name.lower() not in known),
        functions=source.functions | functions,
    )


def _before_join(piece: Piece, lateral: int) -> int:
    """Return the last token before `, LATERAL`, `CROSS JOIN LATERAL`, `LEFT JOIN LATERAL`."""
    at = lateral - 1
    if piece.word(at) == ",":
        return at - 1
    if piece.word(at) != "JOIN":
        raise _Reject("LATERAL stands after neither a comma nor JOIN")
    at -= 1
    if piece.word(at) in ("CROSS", "INNER", "LEFT"):
        return at - 1
    if piece.word(at) == "OUTER" and piece.word(at - 1) == "LEFT":
        return at - 2
    if piece.word(at) in ("OUTER", "RIGHT", "FULL", "NATURAL", "SEMI", "ANTI", "ASOF"):
        raise _Reject(f"LATERAL stands after a {piece.word(at)} JOIN")
    return at


def _described(piece: Piece, first: int, stop: int) -> _Source:
    if stop < first:
        raise _Reject("nothing stands before LATERAL")
    for i in range(first, stop + 1):
        if piece.word(i) in _RANDOM:
            raise _Reject(f"{piece.word(i)} before it gives other rows when read twice")
    text = piece.text[piece.tokens[first].start : piece.tokens[stop].end + 1]
    whole = piece_of(f"SELECT 1 FROM {text}")
    tree = parse_tree(list(whole.tokens), whole.text)
    if not isinstance(tree, exp.Select):
        raise _Reject("what stands before LATERAL could not be parsed")
    origin = tree.args.get("from_") or tree.args.get("from")
    nodes = [origin.this] if origin is not None else []
    nodes += [join.this for join in tree.args.get("joins") or []]
    tables = tuple(
        TableName(name=t.name, schema=t.db or None, catalog=t.catalog or None)
        for t in tree.find_all(exp.Table)
        if isinstance(t.this, exp.Identifier)
    )
    return _Source(
        text=text,
        with_text="",
        aliases=frozenset(n.alias_or_name.lower() for n in nodes if n.alias_or_name),
        tables=tables,
        functions=Span(Slices(piece), first, stop + 1).calls() - _NO_CALLS,
        some=any(piece.word(i) in _SOME for i in range(first, stop + 1)),
    )


def _ctes_before(piece: Piece, lateral: int) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return the WITH queries that are complete at `lateral`: text, names, functions called."""
    names: set[str] = set()
    i = last = 1
    name = ""
    while piece.word(0) == "WITH" and i < lateral:
        if piece.word(i) == "(":
            end = closing(piece.tokens, i)
            if end is None or end > lateral:
                break
            if piece.word(i - 1) in ("AS", "MATERIALIZED"):
                names.add(name.lower())
                last = end + 1
            i = end + 1
            continue
        if piece.word(i) in ("SELECT", "FROM", "VALUES"):
            break
        if piece.word(i - 1) in ("WITH", "RECURSIVE", ","):
            name = piece.tokens[i].text
        i += 1
    for at in range(last):
        if piece.word(at) in (*_RANDOM, "RECURSIVE"):
            raise _Reject(f"{piece.word(at)} before it may give other rows when read twice")
    if not names:
        return "", frozenset(), frozenset()
    text = piece.text[: piece.tokens[last - 1].end + 1]
    functions = Span(Slices(piece), 0, last).calls() - _NO_CALLS - {"as", "materialized"} - names
    return f"{text} ", frozenset(names), functions


# -- columns of those rows -----------------------------------------------------


def _qualifiers(piece: Piece) -> set[str]:
    return {
        piece.tokens[i].text.lower()
        for i in range(len(piece.tokens) - 1)
        if piece.tokens[i + 1].token_type == TokenType.DOT
    }


def _outer_columns(
    piece: Piece, qualifiers: frozenset[str] | set[str]
) -> tuple[list[Edit], tuple[OuterColumn, ...]]:
    """Return the edits that make parameters of `q.v`, and the columns, one entry for each."""
    tokens = piece.tokens
    edits: list[Edit] = []
    found: dict[tuple[str, str], OuterColumn] = {}
    for i in range(len(tokens) - 2):
        qualifier = tokens[i].text.lower()
        if (
            qualifier not in qualifiers
            or tokens[i].token_type == TokenType.STRING
            or tokens[i + 1].token_type != TokenType.DOT
            or (i > 0 and tokens[i - 1].token_type == TokenType.DOT)
        ):
            continue
        if tokens[i + 2].token_type == TokenType.STAR:
            raise _Reject("it reads every column of the rows around it")
        if i + 3 < len(tokens) and tokens[i + 3].token_type in (TokenType.DOT, TokenType.L_PAREN):
            raise _Reject("it reads a field of a column of the rows around it")
        start, stop = tokens[i].start, tokens[i + 2].end + 1
        key = qualifier, tokens[i + 2].text.lower()
        if key not in found:
            name = f"{_PREFIX}{len(found) + 1}"
            found[key] = OuterColumn(name, piece.text[start:stop], qualifier)
        edits.append((start, stop, f"${found[key].name}"))
    return edits, tuple(found.values())


def _labelled(topk: TopK, outer: Sequence[OuterColumn]) -> tuple[Item, ...]:
    """Name the output after what was written, not after our parameters."""
    items: list[Item] = []
    for item in topk.items:
        if isinstance(item, DistanceItem):
            label = _OUTER.sub(lambda m: outer[int(m[1]) - 1].text, item.label)
            items.append(replace(item, label=label))
        elif isinstance(item, ExpressionItem) and item.label is None and _OUTER.search(item.text):
            column = _OUTER.fullmatch(item.text)
            if column is None:
                raise _Reject("an expression of the rows around it has no name")
            label = piece_of(outer[int(column[1]) - 1].text).tokens[-1].text
            items.append(replace(item, label=label))
        else:
            items.append(item)
    return tuple(items)


def reads_outer(text: str) -> bool:
    """Tell whether `text` has a parameter that stands for an outer column."""
    return _OUTER.search(text) is not None


def as_written(text: str, outer: Sequence[OuterColumn], by: Sequence[str]) -> str:
    """Return `text` with other texts in place of the parameters of `outer`."""
    place = {column.name: other for column, other in zip(outer, by, strict=True)}
    return _OUTER.sub(lambda m: place[m[0][1:]], text)


# -- the WHERE around it -------------------------------------------------------


def _conjuncts(
    piece: Piece, depth: Sequence[int], lateral: int, ending: int, aliases: frozenset[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the conjuncts over the source alone, and those without qualifiers, which may be."""
    tokens = piece.tokens
    begin = stop = None
    for i in range(ending + 1, len(tokens) + 1):
        if i == len(tokens) or depth[i] < depth[lateral]:
            stop = i
            break
        if depth[i] > depth[lateral]:
            continue
        if tokens[i].token_type == TokenType.WHERE:
            begin = i + 1
        elif tokens[i].token_type in _AFTER_WHERE:
            stop = i
            break
    if begin is None or stop is None or begin >= stop:
        return (), ()
    base = depth[begin]
    if any(depth[i] == base and tokens[i].token_type == TokenType.OR for i in range(begin, stop)):
        return (), ()
    sure: list[str] = []
    perhaps: list[str] = []
    for span in Span(Slices(piece), begin, stop).split(TokenType.AND):
        if span.calls() - _NO_CALLS:
            continue
        whole = piece_of(f"SELECT 1 WHERE {span.text}")
        tree = parse_tree(list(whole.tokens), whole.text)
        where = tree.args.get("where") if isinstance(tree, exp.Select) else None
        if where is None or where.find(exp.Select) or has_operator(whole):
            continue
        qualifiers = {c.table.lower() for c in where.find_all(exp.Column) if not c.db}
        if qualifiers and qualifiers <= aliases:
            sure.append(span.text)
        elif qualifiers <= aliases | {""}:
            perhaps.append(span.text)
    return tuple(sure), tuple(perhaps)
