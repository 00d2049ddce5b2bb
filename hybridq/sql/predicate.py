"""WHERE conjuncts as conditions that may compile to a mask program.

    NOT (price < 10 OR name LIKE 'a%')
    ->  AllOf(price < 10 is FALSE, name LIKE 'a%' is FALSE)

Only shapes are decided here: a leaf is a comparison of a column with constants or parameters, and
a text over one column goes with it, for DuckDB to evaluate over that column's values. Whether the
types allow a leaf is known when values are bound (hybridq.index.leaves).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from hybridq.conditions import (
    AllOf,
    AnyOf,
    Between,
    ColumnTest,
    Compare,
    Condition,
    Constant,
    Evaluated,
    Expression,
    Given,
    InList,
    InQuery,
    IsNull,
    Known,
    Leaf,
    LiteralKind,
    Opaque,
    Operand,
    Parameter,
    Truth,
    Value,
)
from hybridq.sql.dialect import generate
from hybridq.sql.slices import Span

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "is",
    exp.NullSafeNEQ: "is not",
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CASTS = {
    exp.DataType.Type.DATE: LiteralKind.DATE,
    exp.DataType.Type.TIMESTAMP: LiteralKind.TIMESTAMP,
    exp.DataType.Type.TIMESTAMPNTZ: LiteralKind.TIMESTAMP,
}
_ARITHMETIC = (
    exp.Literal,
    exp.Placeholder,
    exp.Boolean,
    exp.Null,
    exp.Paren,
    exp.Neg,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Div,
    exp.IntDiv,
    exp.Mod,
    exp.DPipe,
    exp.Cast,
    exp.DataType,
    exp.DataTypeParam,
    exp.Interval,
    exp.Var,
)
"""What a constant expression may hold: it means the same however it is printed."""

_NEVER_ALONE = (
    *(exp.Query, exp.SubqueryPredicate, exp.Table, exp.Star, exp.AggFunc, exp.Window, exp.Dot),
)
"""What no text may hold that is evaluated apart from its statement."""
_OF_NOW = ("Current", "Local", "Session")
_SYNTAX = frozenset((
    "and", "or", "not", "in", "like", "ilike", "glob", "similar", "to", "between", "is", "case",
    "when", "then", "else", "cast", "try_cast", "as", "coalesce", "ifnull", "from", "escape", "any",
    "all", "some", "decimal", "numeric", "varchar", "char", "text", "enum", "interval", "extract",
    "position", "overlay", "substring", "trim",
))  # fmt: skip
"""Words that may stand before a parenthesis and call nothing that could be redefined."""

Owns = Callable[[exp.Expr], bool]
"""Tells whether a column reference is the table's own."""


def conjuncts(node: exp.Expr, span: Span | None) -> Iterator[tuple[exp.Expr, Span | None]]:
    """Yield the AND-ed parts of a condition, left to right, each with its stretch of the text."""
    parts = _operands(node, exp.And)
    for part, own in zip(parts, _spans(span, TokenType.AND, len(parts)), strict=True):
        if isinstance(part, exp.Paren) and isinstance(strip(part), exp.And):
            yield from conjuncts(strip(part), _within(own, part))
        else:
            yield part, own


def _operands(node: exp.Expr, operator: type[exp.Expr]) -> list[exp.Expr]:
    """Return what `operator` joins: of `a OR b OR c`, a, b and c. Long chains lean to the left."""
    parts: list[exp.Expr] = []
    while isinstance(node, operator):
        parts.append(node.expression)
        node = node.this
    parts.append(node)
    return parts[::-1]


def _spans(span: Span | None, separator: TokenType, count: int) -> list[Span | None]:
    if span is None or count == 1:
        return [span] * count
    found = span.split(separator)
    return [*found] if len(found) == count else [None] * count


def _within(span: Span | None, node: exp.Expr) -> Span | None:
    """Follow the parentheses of `node` into its text."""
    while isinstance(node, exp.Paren) and span is not None:
        node, span = node.this, span.inside()
    return span


def strip(node: exp.Expr) -> exp.Expr:
    """Return `node` without parentheses around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def value_of(node: exp.Expr) -> Value | None:
    """Return a constant or parameter, None for anything else."""
    node = strip(node)
    match node:
        case exp.Placeholder() if node.name:
            return Parameter(node.name)
        case exp.Literal():
            if node.is_string:
                return Constant(LiteralKind.STRING, node.name)
            integer = node.name.isdigit()
            return Constant(LiteralKind.INTEGER if integer else LiteralKind.DECIMAL, node.name)
        case exp.Neg():
            negated = value_of(node.this)
            if isinstance(negated, Constant) and negated.kind in (
                LiteralKind.INTEGER,
                LiteralKind.DECIMAL,
            ):
                text = negated.text
                return Constant(negated.kind, text[1:] if text[0] == "-" else f"-{text}")
            return None
        case exp.Boolean():
            return Constant(LiteralKind.BOOLEAN, "true" if node.this else "false")
        case exp.Null():
            return Constant(LiteralKind.NULL, "")
        case exp.Cast() if node.to.this in _CASTS and not node.to.expressions:
            inner = strip(node.this)
            if isinstance(inner, exp.Literal) and inner.is_string:
                return Constant(_CASTS[node.to.this], inner.name)
            return None
        case _:
            return None


def _operand_of(node: exp.Expr) -> Operand | None:
    """Return a constant, a parameter, or an expression of them."""
    value = value_of(node)
    if value is None and all(isinstance(n, _ARITHMETIC) for n in node.walk()):
        return Evaluated(generate(node))
    return value


def _column_of(node: exp.Expr) -> str | None:
    """Return the name of a plain column reference."""
    node = strip(node)
    return node.name if isinstance(node, exp.Column) and not node.args.get("join_mark") else None


def in_query_of(node: exp.Expr, span: Span | None, owns: Owns) -> InQuery | None:
    """Return the condition `column [NOT] IN (SELECT …)` is; None if it is not that.

    That the query reads nothing of the row is not certain: alone it fails then.
    """
    truth = Truth.TRUE
    span, node = _within(span, node), strip(node)
    while isinstance(node, exp.Not):
        truth, node = truth.opposite, strip(node.this)
    query = node.args.get("query") if isinstance(node, exp.In) else None
    if not isinstance(query, exp.Subquery):
        return None
    column = strip(node.this)
    if not isinstance(column, exp.Column) or not owns(column) or _column_of(column) is None:
        return None
    text = span.after_in() if span is not None else None
    return InQuery(column.name, truth, generate(query.this) if text is None else text.text)


def condition_of(node: exp.Expr, span: Span | None, owns: Owns) -> Condition:
    """Return the condition a conjunct is; `span` is its text, None if it is not known."""
    return _condition(node, span, Truth.TRUE, owns)


def _condition(node: exp.Expr, span: Span | None, truth: Truth, owns: Owns) -> Condition:
    """Return the rows for which the condition `node` is `truth`."""
    span, node = _within(span, node), strip(node)
    if isinstance(node, exp.And | exp.Or):
        conjunction = isinstance(node, exp.And)
        parts = _operands(node, exp.And if conjunction else exp.Or)
        spans = _spans(span, TokenType.AND if conjunction else TokenType.OR, len(parts))
        found = tuple(
            _condition(part, own, truth, owns) for part, own in zip(parts, spans, strict=True)
        )
        # a AND b is true if both are; it is false, or not true, if one of them is.
        every = conjunction == (truth in (Truth.TRUE, Truth.NOT_FALSE))
        return AllOf(found) if every else AnyOf(found)
    after = span.after_not() if span is not None else None
    if isinstance(node, exp.Not) and (span is None or after is not None):
        return _condition(node.this, after, truth.opposite, owns)
    inner, asked, _ = _peel(node, truth)
    if isinstance(inner, exp.And | exp.Or):
        return _condition(inner, span.head() if span is not None else None, asked, owns)
    constant = _known(inner, asked)
    return constant if constant is not None else _test(node, span, truth, owns)


def _peel(node: exp.Expr, truth: Truth) -> tuple[exp.Expr, Truth, bool]:
    """`x NOT IN (1)`, `x IS NOT TRUE` -> (`x IN (1)`, what it must be, whether that turns it)."""
    turned = False
    while True:
        if isinstance(node, exp.Not):
            truth, turned = truth.opposite, not turned
        elif isinstance(node, exp.Is) and isinstance(node.expression, exp.Boolean):
            # IS TRUE is never NULL, so that "false" and "not true" are one.
            asked = Truth.TRUE if node.expression.this else Truth.FALSE
            holds = truth in (Truth.TRUE, Truth.NOT_FALSE)
            truth = asked if holds else _UNLESS[asked]
            turned = turned if node.expression.this else not turned
        else:
            return node, truth, turned
        node = strip(node.this)


_UNLESS = {Truth.TRUE: Truth.NOT_TRUE, Truth.FALSE: Truth.NOT_FALSE}


def _known(node: exp.Expr, truth: Truth) -> Known | None:
    match node:
        case exp.Boolean():
            return Known(truth.holds(bool(node.this)))
        case exp.Null():
            return Known(truth.holds(None))
        case _:
            return None


def _test(node: exp.Expr, span: Span | None, truth: Truth, owns: Owns) -> Condition:
    """Return a condition without AND and OR, but perhaps with a negation in it."""
    columns = list(node.find_all(exp.Column))
    names = {c.name.lower() for c in columns}
    expression = _expression(node, span)
    if not names:
        if expression is None:
            return Opaque(f"{node.key} is left to DuckDB")
        return Given(truth, expression, _nothing(node))
    if not all(owns(c) for c in columns):
        return Opaque(f"{node.key} over several tables is left to DuckDB")
    if len(names) > 1:
        return Opaque(f"{node.key} over several columns is left to DuckDB", expression)
    inner, asked, turned = _peel(node, truth)
    leaf = _leaf(inner)
    if leaf is None and expression is None:
        return Opaque(f"{node.key} is left to DuckDB")
    if isinstance(inner, exp.Like) and inner.args.get("negate"):
        asked, turned = asked.opposite, not turned
    if turned and expression is not None:
        expression = Expression(f"NOT ({expression.text})", expression.functions)
    return ColumnTest(columns[0].name, asked, leaf, expression)


def _expression(node: exp.Expr, span: Span | None) -> Expression | None:
    """Return the text of a condition that may be evaluated apart from its statement."""
    if span is None or any(node.find_all(*_NEVER_ALONE)):
        return None
    for inner in node.walk():
        if isinstance(inner, exp.Func) and type(inner).__name__.startswith(_OF_NOW):
            return None
        if isinstance(inner, exp.Identifier) and not isinstance(inner.parent, exp.Column):
            return None
    return Expression(span.text, span.calls() - _SYNTAX)


def _nothing(node: exp.Expr) -> Value | None:
    """`? IS NULL` -> the parameter."""
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return value_of(node.this)
    return None


def _leaf(node: exp.Expr) -> Leaf | None:
    """Return the leaf a test without negation is; of NOT LIKE, LIKE."""
    operator = _OPERATORS.get(type(node))
    if operator is not None:
        return _compare(node, operator)
    column = _column_of(node.this) if isinstance(node.this, exp.Expr) else None
    if isinstance(node, exp.Column):
        return Compare(node.name, "=", Constant(LiteralKind.BOOLEAN, "true"))
    if column is None:
        return None
    match node:
        case exp.Between() if not node.args.get("symmetric"):
            low, high = _operand_of(node.args["low"]), _operand_of(node.args["high"])
            if low is not None and high is not None:
                return Between(column, low, high)
        case exp.In() if node.expressions and not node.args.get("query"):
            values = [_operand_of(v) for v in node.expressions]
            if all(v is not None for v in values):
                return InList(column, tuple(v for v in values if v is not None))
        case exp.Is() if isinstance(node.expression, exp.Null):
            return IsNull(column, negated=False)
        case exp.Like():
            value = _operand_of(node.expression)
            if value is not None:
                return Compare(column, "like", value)
        case _:
            pass
    return None


def _compare(node: exp.Expr, operator: str) -> Leaf | None:
    column, value = _column_of(node.this), _operand_of(node.expression)
    if column is not None and value is not None:
        return Compare(column, operator, value)
    column, value = _column_of(node.expression), _operand_of(node.this)
    if column is not None and value is not None:
        return Compare(column, _MIRRORED.get(operator, operator), value)
    return None
