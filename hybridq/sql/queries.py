"""Queries: a TopK, a statement with TopK selects inside, or DuckDB's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hybridq.errors import ProgrammingError
from hybridq.nodes import Embedded, Passthrough, PerRow, Statement, TopK
from hybridq.sql.distances import DISTANCE_WORDS
from hybridq.sql.hints import Hints, all_hints
from hybridq.sql.lateral import is_lateral, recognise_per_row
from hybridq.sql.lexical import Piece, closing, named, piece_of
from hybridq.sql.nearest import as_lateral
from hybridq.sql.operators import has_operator, rewrite_operators
from hybridq.sql.topk import NotTopK, recognise


def has_distance(piece: Piece) -> bool:
    """Tell whether a distance occurs."""
    return has_operator(piece) or any(
        piece.word(i) in DISTANCE_WORDS for i in range(len(piece.tokens))
    )


def query(piece: Piece) -> Statement:
    """Return what a query is."""
    if not has_distance(piece):
        return Passthrough(text=piece.text)
    hints = all_hints(piece)
    text, names = named(piece)
    whole = piece_of(text)
    body, with_text, ctes = _after_with(whole)
    found = recognise(body, with_text=with_text, cte_names=ctes)
    if isinstance(found, TopK):
        refuse_unheard(hints, (found,), "it is for a select inside another one")
        return replace(found, parameters=names)
    embedded = _embedded(as_lateral(whole) or whole, found)
    if isinstance(embedded, Embedded):
        refuse_unheard(hints, embedded.topks, found.reason)
        fallback = rewrite_operators(whole) if has_operator(whole) else None
        return replace(embedded, fallback=fallback or text)
    refuse_unheard(hints, (), embedded.reason)
    if has_operator(whole):
        rewritten = rewrite_operators(whole)
        if rewritten is not None:
            return Passthrough(text=rewritten, rewritten=True, why_not=embedded.reason)
    return Passthrough(text=piece.text, why_not=embedded.reason)


def refuse_unheard(hints: list[Hints], topks: Sequence[TopK | PerRow], reason: str) -> None:
    """Raise for a plan that is asked of a select which DuckDB answers; exact recall is any."""
    unheard = list(hints)
    for select in topks:
        topk = select.topk if isinstance(select, PerRow) else select
        if topk.hints in unheard:
            unheard.remove(topk.hints)
    for plan in (dict(h).get("plan", "auto") for h in unheard):
        if plan not in ("auto", "exact"):
            raise ProgrammingError(f"plan {plan} cannot run: {reason}", hint="take the hint away")


def _after_with(piece: Piece) -> tuple[Piece, str, frozenset[str]]:
    """Split `WITH a AS (…), b AS (…) SELECT …` into the select, the WITH text, and the names."""
    if piece.word(0) != "WITH":
        return piece, "", frozenset()
    names: set[str] = set()
    i = 1
    while i < len(piece.tokens):
        if piece.word(i) == "(":
            end = closing(piece.tokens, i)
            if end is None:
                break
            i = end + 1
            continue
        if piece.word(i) == "SELECT":
            start = piece.tokens[i].start
            return piece_of(piece.text[start:]), piece.text[:start], frozenset(names)
        if piece.word(i + 1) in ("AS", "("):
            names.add(piece.tokens[i].text.lower())
        i += 1
    return piece, "", frozenset()


def _embedded(piece: Piece, why_not: NotTopK) -> Embedded | NotTopK:
    """Find TopK selects in parentheses, outermost first."""
    _, _, ctes = _after_with(piece)
    pieces: list[str] = []
    topks: list[TopK | PerRow] = []
    at = 0
    i = 0
    while i < len(piece.tokens):
        if piece.word(i) == "(" and piece.word(i + 1) == "SELECT":
            end = closing(piece.tokens, i)
            if end is None:
                return why_not
            found = _inside(piece, i, end, ctes)
            if isinstance(found, NotTopK):
                why_not = found if is_lateral(piece, i) else why_not
            else:
                pieces.append(piece.text[at : piece.tokens[i + 1].start])
                topks.append(found)
                at = piece.tokens[end - 1].end + 1
                i = end
        i += 1
    pieces.append(piece.text[at:])
    if not topks or any(has_operator(piece_of(p)) for p in pieces if p.strip()):
        return why_not
    return Embedded(pieces=tuple(pieces), topks=tuple(topks), fallback=piece.text)


def _inside(
    piece: Piece, opening: int, ending: int, ctes: frozenset[str]
) -> TopK | PerRow | NotTopK:
    inner = piece_of(piece.text[piece.tokens[opening + 1].start : piece.tokens[ending - 1].end + 1])
    if not has_distance(inner):
        return NotTopK("it has no distance")
    if is_lateral(piece, opening):
        per_row = recognise_per_row(piece, opening, ending, ctes)
        if per_row is not None:
            return per_row
    found = recognise(inner, cte_names=ctes)
    if isinstance(found, NotTopK):
        return found
    return replace(found, parameters=named(inner)[1])
