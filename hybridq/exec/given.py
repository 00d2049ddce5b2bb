"""Parameters of a statement to which some of ours are added."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from hybridq.sql import lexical

Known: TypeAlias = int | frozenset[str]
"""How many parameters a statement has, or their names."""

_NAMED = "__hybridq_p"


def known_of(used: Collection[int | str]) -> Known | None:
    """Return what the parameters are of which these are used; None if some have names alone."""
    numbers = [at for at in used if isinstance(at, int)]
    if numbers and len(numbers) < len(used):
        return None
    return max(numbers) + 1 if numbers else frozenset(map(str, used))


def fits(known: Known, given: Any) -> bool:
    """Tell whether `given` has the parameters and no others."""
    if isinstance(known, int):
        return isinstance(given, list) and len(given) == known
    if not known:
        return not given
    return isinstance(given, Mapping) and given.keys() == known


def marks(text: str, known: Known, count: int) -> list[str] | None:
    """Return how `count` more parameters are spelled, None if the spelling is mixed."""
    if isinstance(known, frozenset):
        return [f"${_NAMED}{i}" for i in range(count)]
    # With the character behind, for ?1 is another spelling.
    spelled = {text[p.start : p.end + 1] for p in lexical.placeholders(lexical.piece_of(text))}
    if all(mark[0] == "?" and not mark[1:].isdigit() for mark in spelled):
        return ["?"] * count
    if all(mark[0] == "$" for mark in spelled):
        return [f"${known + 1 + i}" for i in range(count)]
    return None


def with_more(given: Any, more: Sequence[Any], *, first: bool = False) -> Any:
    """Return parameters with `more` of them; those stand `first` in the text, if that counts."""
    if isinstance(given, Mapping) or not given:
        return {**(given or {}), **{f"{_NAMED}{i}": value for i, value in enumerate(more)}}
    return [*more, *given] if first else [*given, *more]
