"""Cut the texts of a select's items and conjuncts out of its tokens, as they were written."""

from __future__ import annotations

from sqlglot.tokenizer_core import Token, TokenType

from hybridq.sql.lexical import Piece, depths

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

    def conjuncts(self, count: int) -> list[str] | None:
        """Return the texts of the WHERE's `count` conjuncts, None if they cannot be told apart."""
        start = self.clause.get("where")
        if start is None:
            return None
        later = [i for i in self.clause.values() if i > start]
        stop = min(later, default=len(self.piece.tokens))
        parts = self._split(start + 1, stop, TokenType.AND)
        return parts if len(parts) == count else None

    def _split(self, start: int, stop: int, separator: TokenType) -> list[str]:
        tokens: tuple[Token, ...] = self.piece.tokens
        parts: list[str] = []
        begin, betweens = start, 0
        for i in range(start, stop + 1):
            at_end = i == stop
            if not at_end:
                if self.depth[i] != 0:
                    continue
                if tokens[i].token_type == TokenType.BETWEEN:
                    betweens += 1
                if tokens[i].token_type != separator:
                    continue
                if separator == TokenType.AND and betweens:
                    betweens -= 1
                    continue
            if begin < i:
                parts.append(self.piece.text[tokens[begin].start : tokens[i - 1].end + 1])
            begin = i + 1
        return parts
