"""The extension `fastann`: distance functions as SQL macros over DuckDB's own, in DOUBLE.

The query is rounded to FLOAT first and the result is FLOAT, so that a distance means the same
here as in the index (see docs/sql.md). A NULL vector has no distance.
"""

from __future__ import annotations

from hybridq.extensions import Registry

_LEFT = "CAST(CAST(a AS FLOAT[]) AS DOUBLE[])"
_RIGHT = "CAST(CAST(b AS FLOAT[]) AS DOUBLE[])"


def _safe(expression: str) -> str:
    # DuckDB's list functions raise on a NULL list; COALESCE keeps them away from one.
    filled = expression.format(
        a=f"COALESCE({_LEFT}, {_RIGHT}, [0.0::DOUBLE])",
        b=f"COALESCE({_RIGHT}, {_LEFT}, [0.0::DOUBLE])",
    )
    return f"CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE CAST({filled} AS FLOAT) END"


def register(registry: Registry) -> None:
    """Add the distance macros."""
    macros = {
        "l2_distance": "list_distance({a}, {b})",
        # A zero vector has no direction, hence no distance: NULL, where DuckDB says NaN.
        "cosine_distance": "nullif(list_cosine_distance({a}, {b}), 'nan'::DOUBLE)",
        "inner_product": "list_inner_product({a}, {b})",
        "negative_inner_product": "-list_inner_product({a}, {b})",
        "l1_distance": (
            "list_sum(list_transform(range(1, len({a}) + 1), "
            "lambda hq_i: abs({a}[hq_i] - {b}[hq_i])))"
        ),
    }
    for name, expression in macros.items():
        registry.macro(name, ("a", "b"), _safe(expression))
