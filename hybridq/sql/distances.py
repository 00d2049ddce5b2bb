"""Functions that are distances, under every name they have."""

from __future__ import annotations

from sqlglot import exp

from hybridq.nodes import Metric

_FUNCTIONS: dict[str, tuple[Metric, bool]] = {
    "l2_distance": (Metric.L2, False),
    "array_distance": (Metric.L2, False),
    "list_distance": (Metric.L2, False),
    "euclidean_distance": (Metric.L2, False),
    "cosine_distance": (Metric.COSINE, False),
    "array_cosine_distance": (Metric.COSINE, False),
    "list_cosine_distance": (Metric.COSINE, False),
    "negative_inner_product": (Metric.IP, False),
    "array_negative_inner_product": (Metric.IP, False),
    "list_negative_inner_product": (Metric.IP, False),
    "array_negative_dot_product": (Metric.IP, False),
    "list_negative_dot_product": (Metric.IP, False),
    "inner_product": (Metric.IP, True),
    "array_inner_product": (Metric.IP, True),
    "list_inner_product": (Metric.IP, True),
    "array_dot_product": (Metric.IP, True),
    "list_dot_product": (Metric.IP, True),
}
DISTANCE_WORDS = frozenset(name.upper() for name in _FUNCTIONS)


def distance_function(
    node: exp.Expr,
) -> tuple[Metric, bool, exp.Expr, exp.Expr] | None:
    """Return (metric, negated, left, right) of a call of a distance function."""
    if isinstance(node, exp.EuclideanDistance):
        return Metric.L2, False, node.this, node.expression
    if isinstance(node, exp.CosineDistance):
        return Metric.COSINE, False, node.this, node.expression
    if isinstance(node, exp.Anonymous) and len(node.expressions) == 2:
        known = _FUNCTIONS.get(node.name.lower())
        if known is not None:
            return known[0], known[1], node.expressions[0], node.expressions[1]
    return None
