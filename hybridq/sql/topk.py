"""Recognise `SELECT … FROM t WHERE … ORDER BY distance LIMIT k`.

    select id, v <-> ? as d from t where price < 10 and v <-> ? < 0.5 order by d, id limit 10
    ->  TopK(table=t, distance=L2(v, $hq1), conjuncts=[price < 10], radius=0.5, …)

A select that is not recognised is no error: DuckDB answers it exactly, and `NotTopK` says why.
Texts of select items and conjuncts are slices of the statement, never printed again from a tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from hybridq.conditions import Condition, Opaque
from hybridq.nodes import (
    ColumnItem,
    Conjunct,
    Distance,
    DistanceItem,
    ExpressionItem,
    Item,
    QueryText,
    QueryValue,
    QueryVector,
    Radius,
    SortKey,
    Star,
    TableName,
    TopK,
    Value,
)
from hybridq.sql.dialect import generate, parse_tree
from hybridq.sql.distances import distance_function
from hybridq.sql.hints import hints_of
from hybridq.sql.joins import Joined, joined_of, name_of
from hybridq.sql.lexical import Piece, piece_of
from hybridq.sql.operators import has_operator
from hybridq.sql.predicate import condition_of, conjuncts, in_query_of, strip, value_of
from hybridq.sql.slices import Slices


@dataclass(frozen=True, slots=True)
class NotTopK:
    """Why a select is left to DuckDB."""

    reason: str


class _Reject(Exception):  # noqa: N818 - control flow inside this module
    """Leaves recognition with a reason."""


def recognise(
    piece: Piece, *, with_text: str = "", cte_names: frozenset[str] = frozenset()
) -> TopK | NotTopK:
    """Recognise the select `piece`, whose parameters are already named."""
    tree = parse_tree(list(piece.tokens), piece.text)
    if not isinstance(tree, exp.Select):
        return NotTopK("the statement is not a plain SELECT")
    try:
        return _recognise(tree, piece, with_text, cte_names)
    except _Reject as reject:
        return NotTopK(str(reject))


def _recognise(tree: exp.Select, piece: Piece, with_text: str, cte_names: frozenset[str]) -> TopK:
    slices = Slices(piece)
    joined = joined_of(tree, slices, cte_names)
    if isinstance(joined, str):
        raise _Reject(joined)
    table = _table(tree, joined, cte_names)
    if not with_text and any(t.name.lower() in cte_names for t in tree.find_all(exp.Table)):
        raise _Reject("it reads a WITH query of the statement around it")
    scope = _Scope(table)
    for clause in ("laterals", "group", "having", "qualify", "distinct", "windows"):
        if tree.args.get(clause):
            raise _Reject(f"it has a {clause.rstrip('s').upper()} clause")
    for clause in ("sample", "with_", "with", "pivots", "into", "locks"):
        if tree.args.get(clause):
            raise _Reject(f"it has a {clause.rstrip('s_').upper()} clause")
    limit, offset = _counts(tree)
    aliases = {e.alias.lower(): e.this for e in tree.expressions if isinstance(e, exp.Alias)}
    where = tree.args.get("where")
    used: set[str] = set()
    condition = _without_aliases(where.this, aliases, scope, used) if where is not None else None
    order = tree.args.get("order")
    keys = order.expressions if order is not None else []
    if keys:
        distance = _order_distance(keys[0], scope, aliases)
    else:
        distance = _bounded_distance(condition, slices, scope, limit)
    texts = slices.items(len(tree.expressions))
    if texts is None:
        raise _Reject("its select list could not be told apart")
    items = tuple(
        _item(node, text, scope) for node, text in zip(tree.expressions, texts, strict=True)
    )
    sort_keys = tuple(_sort_key(e, scope, aliases) for e in keys[1:])
    radius, kept = (
        _where(condition, slices, scope, distance, joined) if condition is not None else (None, ())
    )
    if limit is None and radius is None:
        raise _Reject("it has no LIMIT")
    columns = list(tree.find_all(exp.Column))
    # In the select list and the WHERE a column goes before an alias of the same name, and an alias
    # is DuckDB's to resolve; ORDER BY has resolved its aliases above.
    unqualified = frozenset(
        c.name.lower()
        for node in (*tree.expressions, *([condition] if condition is not None else []))
        for c in _columns(node)
        if not c.table and not _inside(c, node)
    )
    if joined is not None and joined.derived and unqualified:
        raise _Reject(f"{min(unqualified)} may be a column of a joined query")
    # `s.x` is a field of column s, or a column of a table around this select.
    sources = {s.alias_or_name.lower() for s in tree.find_all(exp.Table, exp.Subquery)}
    outer = frozenset(
        c.table.lower() for c in columns if c.table and not c.db and c.table.lower() not in sources
    )
    return TopK(
        table=table,
        items=items,
        conjuncts=(*joined.conjuncts, *kept) if joined is not None else kept,
        others=joined.tables if joined is not None else (),
        radius=radius,
        distance=distance,
        sort_keys=sort_keys,
        limit=limit,
        offset=offset,
        fallback=with_text + (generate(tree) if has_operator(piece) else piece.text),
        with_text=with_text,
        parameters=(),
        unqualified=unqualified | outer,
        where_aliases=frozenset(used),
        hints=hints_of(piece),
    )


def _counts(tree: exp.Select) -> tuple[Value | None, Value | None]:
    """Return LIMIT and OFFSET; no LIMIT is for a WHERE that bounds the distance."""
    limit_node, offset_node = tree.args.get("limit"), tree.args.get("offset")
    limit = value_of(limit_node.expression) if isinstance(limit_node, exp.Limit) else None
    offset = value_of(offset_node.expression) if offset_node is not None else None
    if limit_node is None and offset_node is not None:
        raise _Reject("it has an OFFSET and no LIMIT")
    if (limit_node is not None and limit is None) or (offset_node is not None and offset is None):
        raise _Reject("LIMIT or OFFSET is not a constant or a parameter")
    return limit, offset


def _bounded_distance(
    condition: exp.Expr | None, slices: Slices, scope: _Scope, limit: Value | None
) -> Distance:
    """Return the distance of a `distance < r` that stands in for an ORDER BY."""
    if limit is not None or condition is None:
        raise _Reject("it has no ORDER BY")
    for node, _ in conjuncts(condition, slices.where()):
        plain = strip(node)
        if isinstance(plain, exp.LT | exp.LTE | exp.GT | exp.GTE):
            for side in (plain.this, plain.expression):
                distance = _distance(side, scope)
                if distance is not None and _radius(node, "", scope, distance) is not None:
                    return distance
    raise _Reject("it has no ORDER BY")


def _table(tree: exp.Select, joined: Joined | None, cte_names: frozenset[str]) -> TableName:
    source = tree.args.get("from_") or tree.args.get("from")
    node = source.this if source is not None else None
    if joined is not None:
        node = joined.main
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        raise _Reject("it does not read one plain table")
    extra = set(node.args) - {"this", "db", "catalog", "alias"}
    if any(node.args.get(name) for name in extra):
        raise _Reject("its table has a join, a sample or a time")
    alias = node.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise _Reject("its table alias renames columns")
    if not node.db and node.name.lower() in cte_names:
        raise _Reject("it reads a WITH query, not a table")
    return name_of(node)


class _Scope:
    """Which column references are the table's own."""

    def __init__(self, table: TableName) -> None:
        self.names = {(table.alias or table.name).lower()}

    def owns(self, node: exp.Expr) -> bool:
        return (
            isinstance(node, exp.Column)
            and isinstance(node.this, exp.Identifier)
            and not node.db
            and (not node.table or node.table.lower() in self.names)
        )

    def owns_star(self, node: exp.Column) -> bool:
        return not node.db and (not node.table or node.table.lower() in self.names)

    def is_constant(self, node: exp.Expr) -> bool:
        """Tell whether `node` depends on no row: columns may occur inside subqueries alone."""
        return all(_inside(c, node) for c in _columns(node))


def _columns(node: exp.Expr) -> list[exp.Column]:
    return list(node.find_all(exp.Column))


def _inside(column: exp.Column, root: exp.Expr) -> bool:
    """Tell whether a Select lies between `column` and `root` (inclusive)."""
    node: exp.Expr | None = column
    while node is not None:
        if isinstance(node, exp.Select):
            return True
        if node is root:
            return False
        node = node.parent
    return False


def _distance(node: exp.Expr, scope: _Scope) -> Distance | None:
    """Return the distance between a column of the table and something constant."""
    call = distance_function(strip(node))
    if call is None:
        return None
    metric, negated, left, right = call
    for column, query in ((left, right), (right, left)):
        column = _uncast(column)
        if scope.owns(column) and scope.is_constant(query):
            return Distance(metric, column.name, _query(query), negated)
    return None


def _uncast(node: exp.Expr) -> exp.Expr:
    """`v::FLOAT[3]` is `v`: vectors are compared as FLOAT in any case."""
    node = strip(node)
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.ARRAY:
        return strip(node.this)
    return node


def _query(node: exp.Expr) -> QueryVector:
    inner = _uncast(node)
    value = value_of(inner)
    if value is not None:
        return QueryValue(value)
    return QueryText(generate(node))


def _order_distance(node: exp.Expr, scope: _Scope, aliases: dict[str, exp.Expr]) -> Distance:
    ordered = node if isinstance(node, exp.Ordered) else exp.Ordered(this=node)
    expression = strip(ordered.this)
    if isinstance(expression, exp.Column) and not expression.table:
        expression = strip(aliases.get(expression.name.lower(), expression))
    distance = _distance(expression, scope)
    if distance is None:
        raise _Reject("its first ORDER BY key is not a distance between a column and a constant")
    if bool(ordered.args.get("desc")) != distance.negated:
        raise _Reject(
            "inner_product orders the nearest first only with DESC"
            if distance.negated
            else "it orders by distance DESC"
        )
    if ordered.args.get("nulls_first"):
        raise _Reject("it orders NULLS FIRST")
    return distance


def _sort_key(node: exp.Expr, scope: _Scope, aliases: dict[str, exp.Expr]) -> SortKey:
    ordered = node if isinstance(node, exp.Ordered) else exp.Ordered(this=node)
    expression = strip(ordered.this)
    if isinstance(expression, exp.Column) and not expression.table:
        expression = strip(aliases.get(expression.name.lower(), expression))
    if not scope.owns(expression):
        raise _Reject("a further ORDER BY key is not a plain column")
    return SortKey(
        expression.name, bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first"))
    )


def _item(node: exp.Expr, text: str, scope: _Scope) -> Item:
    label = node.alias if isinstance(node, exp.Alias) else None
    inner = strip(node.this if isinstance(node, exp.Alias) else node)
    if isinstance(inner, exp.Star):
        if any(inner.args.get(name) for name in ("except_", "except", "replace", "rename")):
            return ExpressionItem(text, None)
        return Star()
    if isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star):
        plain = not any(inner.this.args.get(n) for n in ("except_", "except", "replace", "rename"))
        return Star() if plain and scope.owns_star(inner) else ExpressionItem(text, None)
    if inner.find(exp.AggFunc) or inner.find(exp.Window):
        raise _Reject("its select list aggregates")
    if scope.owns(inner):
        return ColumnItem(inner.name, label)
    distance = _distance(inner, scope)
    if distance is not None:
        return DistanceItem(distance, label if label is not None else _label(text))
    body = _without_alias(text) if label is not None else text
    if has_operator(piece_of(body)):
        label = label if label is not None else _label(body)
        body = generate(inner)
    return ExpressionItem(body, label)


def _label(text: str) -> str:
    """Name an unnamed distance by its text, with parameters as they are mostly written."""
    return re.sub(r"\$hq\d+", "?", " ".join(text.split()))


def _without_alias(text: str) -> str:
    """`expr AS name`, `expr name` or `name: expr` -> `expr`."""
    tokens = piece_of(text).tokens
    if len(tokens) >= 3 and tokens[1].token_type == TokenType.COLON:
        return text[tokens[2].start :]
    keep = len(tokens) - (2 if tokens[-2].token_type == TokenType.ALIAS else 1)
    return text[: tokens[keep - 1].end + 1]


def _without_aliases(
    condition: exp.Expr, aliases: dict[str, exp.Expr], scope: _Scope, used: set[str]
) -> exp.Expr:
    """`d < 0.5` with `v <-> ? AS d` in the select list  ->  `v <-> ? < 0.5`."""

    def replace(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table:
            meant = aliases.get(node.name.lower())
            if meant is not None and _distance(meant, scope) is not None:
                used.add(node.name.lower())
                return meant.copy()
        return node

    return condition.copy().transform(replace, copy=False)


def _where(
    condition: exp.Expr, slices: Slices, scope: _Scope, order: Distance, joined: Joined | None
) -> tuple[Radius | None, tuple[Conjunct, ...]]:
    radius: Radius | None = None
    kept: list[Conjunct] = []
    for i, (node, span) in enumerate(conjuncts(condition, slices.where())):
        if joined is not None and i in joined.consumed:
            continue
        text = span.text if span is not None else generate(node)
        if has_operator(piece_of(text)) or _mentions_alias(node, text):
            text, span = generate(node), None
        bound = _radius(node, text, scope, order)
        if bound is not None and radius is None:
            radius = bound
            continue
        own: Condition = Opaque("it reads other tables")
        if not node.find(exp.Select) and all(scope.owns(c) for c in _columns(node)):
            own = condition_of(node, span, scope.owns)
        elif (semi := in_query_of(node, span, scope.owns)) is not None:
            own = semi
        names = frozenset(c.name.lower() for c in _columns(node))
        kept.append(Conjunct(text, own, names))
    return radius, tuple(kept)


def _mentions_alias(node: exp.Expr, text: str) -> bool:
    """Tell whether an alias was replaced in `node`: it then has a distance its text lacks."""
    has_call = any(distance_function(n) is not None for n in node.walk())
    return has_call and not any(w in text.lower() for w in ("distance", "product"))


def _radius(node: exp.Expr, text: str, scope: _Scope, order: Distance) -> Radius | None:
    node = strip(node)
    sides: tuple[exp.Expr, exp.Expr]
    match node:
        case exp.LT() | exp.LTE():
            sides = (node.this, node.expression)
        case exp.GT() | exp.GTE():
            sides = (node.expression, node.this)
        case _:
            return None
    value = value_of(sides[1])
    distance = _distance(sides[0], scope)
    if value is None or distance is None or distance.negated or order.negated:
        return None
    if (distance.metric, distance.column.lower()) != (order.metric, order.column.lower()):
        return None
    return Radius(distance, value, isinstance(node, exp.LTE | exp.GTE), text)
