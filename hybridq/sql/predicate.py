"""WHERE conjuncts as leaves that may compile to a mask program.

Only shapes are decided here: `column op constant-or-parameter`. Whether the types allow it is
known when values are bound (hybridq.index.attributes); what does not fit stays Opaque.
"""

from __future__ import annotations

from sqlglot import exp

from hybridq.nodes import (
    Between,
    Compare,
    Constant,
    InList,
    IsNull,
    Leaf,
    LiteralKind,
    Opaque,
    Parameter,
    Value,
)

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CASTS = {
    exp.DataType.Type.DATE: LiteralKind.DATE,
    exp.DataType.Type.TIMESTAMP: LiteralKind.TIMESTAMP,
    exp.DataType.Type.TIMESTAMPNTZ: LiteralKind.TIMESTAMP,
}


def conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """Return the AND-ed parts of a condition, left to right."""
    if isinstance(node, exp.And):
        return conjuncts(node.this) + conjuncts(node.expression)
    return [node]


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
                return Constant(negated.kind, "-" + negated.text)
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


def column_of(node: exp.Expr) -> str | None:
    """Return the name of a plain column reference."""
    node = strip(node)
    return node.name if isinstance(node, exp.Column) and not node.args.get("join_mark") else None


def leaf_of(node: exp.Expr) -> Leaf | Opaque:
    """Return the leaf a conjunct compiles to, if its shape allows one."""
    node = strip(node)
    operator = _OPERATORS.get(type(node))
    if operator is not None:
        return _compare(node, operator)
    match node:
        case exp.Between() if not node.args.get("symmetric"):
            column, low, high = (
                column_of(node.this),
                value_of(node.args["low"]),
                value_of(node.args["high"]),
            )
            if column is not None and low is not None and high is not None:
                return Between(column, low, high)
        case exp.In() if node.expressions and not node.args.get("query"):
            column = column_of(node.this)
            values = [value_of(v) for v in node.expressions]
            if column is not None and all(v is not None for v in values):
                return InList(column, tuple(v for v in values if v is not None))
        case exp.Is():
            column = column_of(node.this)
            if column is not None and isinstance(node.expression, exp.Null):
                return IsNull(column, negated=False)
        case exp.Not():
            return _negated(strip(node.this))
        case exp.Column():
            return Compare(node.name, "=", Constant(LiteralKind.BOOLEAN, "true"))
        case _:
            pass
    return Opaque(f"{node.key} is left to DuckDB")


def _compare(node: exp.Expr, operator: str) -> Leaf | Opaque:
    column, value = column_of(node.this), value_of(node.expression)
    if column is not None and value is not None:
        return Compare(column, operator, value)
    column, value = column_of(node.expression), value_of(node.this)
    if column is not None and value is not None:
        return Compare(column, _MIRRORED[operator], value)
    return Opaque("not a comparison of a column with a constant")


def _negated(node: exp.Expr) -> Leaf | Opaque:
    if isinstance(node, exp.Is):
        column = column_of(node.this)
        if column is not None and isinstance(node.expression, exp.Null):
            return IsNull(column, negated=True)
    if isinstance(node, exp.Column):
        return Compare(node.name, "=", Constant(LiteralKind.BOOLEAN, "false"))
    return Opaque("NOT is left to DuckDB")
