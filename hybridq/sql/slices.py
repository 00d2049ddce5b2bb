"""Cut the texts of a select's items and conjuncts out of its tokens, as they were written."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot.tokenizer_core import Token, TokenType

from hybridq.sql.lexical import Piece, closing, depths

_CLAUSES = {
    TokenType.FROM: "from",
    TokenType.WHERE: "where",
    TokenType.ORDER_BY: "order",
    TokenType.LIMIT: "limit",
    TokenType.OFFSET: "offset",
}


class Slices:
    """The texts of a select's items and conjuncts, cut out of its tokens."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.depth = depths(piece.tokens)
        self.clause: dict[str, int] = {}
        for i, token in enumerate(piece.tokens):
            name = _CLAUSES.get(token.token_type)
            if name is not None and self.depth[i] == 0:
                self.clause.setdefault(name, i)

    def items(self, count: int) -> list[str] | None:
        """Return the texts of the `count` select items, None if they cannot be told apart."""
        start = self.clause.get("from")
        if start is None or self.piece.word(0) != "SELECT":
            return None
        parts = self._split(1, start, TokenType.COMMA)
        return parts if len(parts) == count else None

    def where(self) -> Span | None:
        """Return the condition of the WHERE."""
        start = self.clause.get("where")
        if start is None:
            return None
        later = [i for i in self.clause.values() if i > start]
        return Span(self, start + 1, min(later, default=len(self.piece.tokens)))

    def _split(self, start: int, stop: int, separator: TokenType) -> list[str]:
        return [span.text for span in Span(self, start, stop).split(separator)]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a select's tokens, `stop` excluded: a condition, or a part of one."""

    slices: Slices
    start: int
    stop: int

    @property
    def text(self) -> str:
        """The text, as it was written."""
        tokens = self.slices.piece.tokens
        return self.slices.piece.text[tokens[self.start].start : tokens[self.stop - 1].end + 1]

    def split(self, separator: TokenType) -> list[Span]:
        """Return the parts between `separator`s; the AND of a BETWEEN separates nothing."""
        tokens: tuple[Token, ...] = self.slices.piece.tokens
        depth = self.slices.depth
        base = depth[self.start] if self.start < len(depth) else 0
        parts: list[Span] = []
        begin, betweens = self.start, 0
        for i in range(self.start, self.stop + 1):
            if i < self.stop:
                if depth[i] != base:
                    continue
                if tokens[i].token_type == TokenType.BETWEEN:
                    betweens += 1
                if tokens[i].token_type != separator:
                    continue
                if separator == TokenType.AND and betweens:
                    betweens -= 1
                    continue
            if begin < i:
                parts.append(Span(self.slices, begin, i))
            begin = i + 1
        return parts

    def inside(self) -> Span | None:
        """Return what is between the parentheses around the whole of it, if there are any."""
        piece = self.slices.piece
        if piece.word(self.start) != "(" or self.stop - self.start < 3:
            return None
        if closing(piece.tokens, self.start) != self.stop - 1:
            return None
        return Span(self.slices, self.start + 1, self.stop - 1)

    def head(self) -> Span | None:
        """Return what is between the parentheses it begins with: `a OR b` of `(a OR b) IS TRUE`."""
        piece = self.slices.piece
        end = closing(piece.tokens, self.start) if piece.word(self.start) == "(" else None
        if end is None or not self.start + 1 < end < self.stop:
            return None
        inner = Span(self.slices, self.start + 1, end)
        return inner.head() if inner.inside() is not None else inner

    def after_not(self) -> Span | None:
        """Return what follows the NOT it begins with, if it begins with one."""
        if self.slices.piece.word(self.start) != "NOT" or self.stop - self.start < 2:
            return None
        return Span(self.slices, self.start + 1, self.stop)

    def after_in(self) -> Span | None:
        """Return what is in the parentheses it ends with, after the word IN."""
        piece = self.slices.piece
        for i in range(self.start, self.stop - 1):
            if piece.word(i) == "IN" and self.slices.depth[i] == self.slices.depth[self.start]:
                return Span(self.slices, i + 1, self.stop).inside()
        return None

    def calls(self) -> frozenset[str]:
        """Return the words before an opening parenthesis, in lower case."""
        tokens = self.slices.piece.tokens
        return frozenset(
            tokens[i].text.lower()
            for i in range(self.start, self.stop - 1)
            if tokens[i + 1].token_type == TokenType.L_PAREN
            and (
                tokens[i].text[:1].isalpha()
                or tokens[i].text[:1] == "_"
                or tokens[i].token_type == TokenType.IDENTIFIER
            )
        )
