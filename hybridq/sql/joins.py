"""Inner joins that only filter, read as the semi-joins that they mean.

    FROM items i JOIN side s ON i.label = s.id WHERE s.kind = ? AND i.price < 10
    ->  FROM items i WHERE i.label IN (SELECT s.id FROM side s WHERE s.kind = ?) AND i.price < 10

Nothing but conditions may read the other tables. A row that joins several of theirs comes several
times, which IN does not say: that every value comes but once is found out when they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from hybridq.conditions import Conjunct, InQuery, Opaque, Truth
from hybridq.nodes import TableName
from hybridq.sql.dialect import generate
from hybridq.sql.distances import distance_function
from hybridq.sql.lexical import piece_of
from hybridq.sql.operators import has_operator
from hybridq.sql.predicate import condition_of, conjuncts, strip
from hybridq.sql.slices import Slices, Span

_CLAUSE = "it has a JOIN clause"
_NO_JOIN = "a condition reads joined tables, and is no equality of columns"


@dataclass(frozen=True, slots=True)
class Joined:
    """A join as semi-joins of its `main` table.

    `tables` are the other tables that have a name in the catalog, `derived` if there are others. Of
    the WHERE the `consumed` conjuncts, by number, went into `conjuncts`.
    """

    main: exp.Table
    tables: tuple[TableName, ...]
    derived: bool
    consumed: frozenset[int]
    conjuncts: tuple[Conjunct, ...]


@dataclass(slots=True)
class _Side:
    """Tables joined with each other, and how they are joined with the main one."""

    sources: list[exp.Expr]
    conditions: list[str] = field(default_factory=list)
    links: list[tuple[exp.Column, exp.Column]] = field(default_factory=list)


def joined_of(tree: exp.Select, slices: Slices, cte_names: frozenset[str]) -> Joined | str | None:
    """Read the joins of a select around the table it searches; say why not, None if it has none."""
    others = tree.args.get("joins")
    if not others:
        return None
    source = tree.args.get("from_") or tree.args.get("from")
    if source is None:
        return _CLAUSE
    nodes: dict[str, exp.Expr] = {}
    for node in (source.this, *(j.this for j in others)):
        name = node.alias_or_name.lower()
        if not name or name in nodes or not _is_plain(node):
            return _CLAUSE
        nodes[name] = node
    main = _searched(tree) or source.this.alias_or_name.lower()
    table = nodes.pop(main, None)
    if not isinstance(table, exp.Table):
        return _CLAUSE
    order = tree.args.get("order")
    for node in (*tree.expressions, *([order] if order is not None else [])):
        if isinstance(strip(node), exp.Star):
            return "its select list has all columns of joined tables"
        if any(c.table.lower() in nodes for c in node.find_all(exp.Column)):
            return "its select list or ORDER BY reads a joined table"
    sides = {name: _Side([node]) for name, node in nodes.items()}
    own: list[exp.Expr] = []
    for join in others:
        kind = (join.args.get("kind") or "").upper()
        if kind not in ("", "INNER", "CROSS") or join.args.get("side") or join.args.get("method"):
            return "it has a JOIN clause that is no inner join"
        on = join.args.get("on")
        if join.args.get("using"):
            on = _using(join, main, list(nodes)) if len(others) == 1 else None
            if on is None:
                return "it has a JOIN clause with several USING columns"
        for node, _ in conjuncts(on, None) if on is not None else ():
            if any(not c.table for c in node.find_all(exp.Column)):
                return "its JOIN clause has a column without its table"
            if not _take(node, None, main, sides):
                if any(c.table.lower() != main for c in node.find_all(exp.Column)):
                    return _NO_JOIN
                own.append(node)
    consumed: set[int] = set()
    where = tree.args.get("where")
    if where is not None:
        for i, (node, span) in enumerate(conjuncts(where.this, slices.where())):
            if _take(node, span, main, sides):
                consumed.add(i)
            elif _reads(node, sides):
                return _NO_JOIN
    found = [_semi_join(side) for side in {id(s): s for s in sides.values()}.values()]
    if any(f is None for f in found):
        return "a joined table is not joined by one equality of columns"
    return Joined(
        main=table,
        tables=tuple(name_of(n) for n in nodes.values() if isinstance(n, exp.Table)),
        derived=any(_is_derived(node, cte_names) for node in nodes.values()),
        consumed=frozenset(consumed),
        conjuncts=(*(f for f in found if f is not None), *map(_own, own)),
    )


def _searched(tree: exp.Select) -> str:
    """Return the table, as columns are qualified with it, of the first distance, '' if not told."""
    for call in tree.find_all(exp.Expr):
        if distance_function(call) is not None:
            names = {c.table.lower() for c in call.find_all(exp.Column) if c.table}
            if len(names) == 1:
                return names.pop()
    return ""


def _is_plain(node: exp.Expr) -> bool:
    extra = {name for name, value in node.args.items() if value}
    if isinstance(node, exp.Table):
        return isinstance(node.this, exp.Identifier) and extra <= {"this", "db", "catalog", "alias"}
    return isinstance(node, exp.Subquery) and extra <= {"this", "alias"}


def _is_derived(node: exp.Expr, cte_names: frozenset[str]) -> bool:
    """Tell whether the columns of a source are not those of a table in the catalog."""
    alias = node.args.get("alias")
    renamed = alias is not None and alias.args.get("columns")
    return not isinstance(node, exp.Table) or node.name.lower() in cte_names or bool(renamed)


def name_of(table: exp.Table) -> TableName:
    """Return the name of a table, as it is written."""
    return TableName(
        name=table.name,
        schema=table.db or None,
        catalog=table.catalog or None,
        alias=table.alias or None,
    )


def _using(join: exp.Join, main: str, others: list[str]) -> exp.Expr | None:
    columns = join.args["using"]
    if len(columns) != 1 or len(others) != 1:
        return None
    name = columns[0].name
    return exp.EQ(this=exp.column(name, main), expression=exp.column(name, others[0]))


def _reads(node: exp.Expr, sides: dict[str, _Side]) -> set[str]:
    """Return which of the other tables a condition names."""
    return {c.table.lower() for c in node.find_all(exp.Column)} & sides.keys()


def _take(node: exp.Expr, span: Span | None, main: str, sides: dict[str, _Side]) -> bool:
    """Take a conjunct that reads other tables alone, or links one to the main table."""
    names = _reads(node, sides)
    if not names:
        return False
    link = _link(node, main, sides)
    if link is not None:
        sides[names.pop()].links.append(link)
        return True
    if any(c.table.lower() not in sides for c in node.find_all(exp.Column)):
        return False
    side, *rest = {id(sides[n]): sides[n] for n in names}.values()
    for other in rest:
        side.sources += other.sources
        side.conditions += other.conditions
        side.links += other.links
        sides.update({name: side for name, s in sides.items() if s is other})
    text = span.text if span is not None else generate(node)
    side.conditions.append(generate(node) if has_operator(piece_of(text)) else text)
    return True


def _link(
    node: exp.Expr, main: str, sides: dict[str, _Side]
) -> tuple[exp.Column, exp.Column] | None:
    """`main.a = side.b`, either way round -> its columns."""
    node = strip(node)
    if not isinstance(node, exp.EQ):
        return None
    left, right = strip(node.this), strip(node.expression)
    for own, other in ((left, right), (right, left)):
        if not isinstance(own, exp.Column) or not isinstance(other, exp.Column):
            return None
        if own.table.lower() == main and other.table.lower() in sides and not own.db:
            return own, other
    return None


def _semi_join(side: _Side) -> Conjunct | None:
    if len(side.links) != 1:
        return None
    ((own, other),) = side.links
    query = f"SELECT {generate(other)} FROM {', '.join(map(generate, side.sources))}"
    if side.conditions:
        query += f" WHERE {' AND '.join(f'({text})' for text in side.conditions)}"
    return Conjunct(
        f"{generate(own)} IN ({query})",
        InQuery(own.name, Truth.TRUE, query, once=True),
        frozenset((own.name.lower(),)),
    )


def _own(node: exp.Expr) -> Conjunct:
    """Return a condition of ON over the main table alone."""
    names = frozenset(c.name.lower() for c in node.find_all(exp.Column))
    alone = node.find(exp.Select) is None
    condition = condition_of(node, None, lambda _: True) if alone else Opaque("it reads tables")
    return Conjunct(generate(node), condition, names)
