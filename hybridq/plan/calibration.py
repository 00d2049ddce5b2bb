"""Unit costs from what was measured, made consistent.

A host is faster or slower than the reference as a whole. A single unit cost that is out of line
with the others was measured while the host was busy with something else, and is believed in part.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import fields, replace

from hybridq.plan.cost import REFERENCE, UnitCosts

_BELIEVED = 2.5
"""Unit costs lie that many times from the others, relative to the reference, at most."""


def calibrated(measured: Mapping[str, float]) -> UnitCosts:
    """Return unit costs from measured ones by name, and reference ones where there are none."""
    names = [f.name for f in fields(UnitCosts)]
    ratios = {n: measured[n] / getattr(REFERENCE, n) for n in names if measured.get(n, 0.0) > 0.0}
    if not ratios:
        return REFERENCE
    middle = statistics.median(ratios.values())
    low, high = middle / _BELIEVED, middle * _BELIEVED
    believed = {n: getattr(REFERENCE, n) * min(max(r, low), high) for n, r in ratios.items()}
    return replace(REFERENCE, **believed)
