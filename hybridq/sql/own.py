"""Statements of our own, read from their tokens: indexes, extensions, settings, transactions.

Each reader returns None where the statement turns out to be DuckDB's.
"""

from __future__ import annotations

from sqlglot.tokenizer_core import TokenType

from hybridq.errors import ProgrammingError
from hybridq.nodes import (
    Analyze,
    CreateExtension,
    CreateIndex,
    DropIndex,
    Passthrough,
    Reindex,
    ResetSetting,
    SetSetting,
    Show,
    Statement,
    TableName,
    Transaction,
)
from hybridq.sql.capture import table_at
from hybridq.sql.lexical import Piece, line_and_column

INDEX_METHODS = ("ANN", "IVFFLAT", "HNSW")
_OPCLASS_METRICS = {
    "vector_l2_ops": "l2",
    "vector_cosine_ops": "cosine",
    "vector_ip_ops": "ip",
}


class Cursor:
    """Reads the tokens of one of our own statements."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.i = 0

    def take(self, *words: str) -> bool:
        """Take these words if they come next."""
        if all(self.piece.word(self.i + k) == word for k, word in enumerate(words)):
            self.i += len(words)
            return True
        return False

    @property
    def done(self) -> bool:
        """Whether all tokens are taken."""
        return self.i >= len(self.piece.tokens)

    def name(self, what: str) -> str:
        """Take an identifier."""
        if self.done:
            raise self.error(f"{what} expected at the end")
        token = self.piece.tokens[self.i]
        if token.token_type != TokenType.IDENTIFIER and not token.text.isidentifier():
            raise self.error(f'{what} expected, not "{token.text}"')
        self.i += 1
        return token.text

    def dotted(self, what: str) -> str:
        """Take a name with dots, as settings have."""
        parts = [self.name(what)]
        while self.take("."):
            parts.append(self.name(what))
        return ".".join(parts)

    def table(self) -> TableName:
        """Take a table name."""
        found = table_at(self.piece, self.i)
        if found is None:
            raise self.error("table name expected")
        self.i = found[1]
        return found[0]

    def value(self) -> object:
        """Take a constant: a number, a string, a boolean or a bare word."""
        negative = self.take("-")
        if self.done:
            raise self.error("value expected at the end")
        token = self.piece.tokens[self.i]
        self.i += 1
        if token.token_type == TokenType.NUMBER:
            number = float(token.text) if not token.text.isdigit() else int(token.text)
            return -number if negative else number
        if token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
            word = token.text.lower()
            if word in ("true", "false"):
                return word == "true"
            if word == "null":
                return None
            return word
        return token.text

    def end(self) -> None:
        """Require the end of the statement."""
        if not self.done:
            raise self.error(f'unexpected "{self.piece.tokens[self.i].text}"')

    def error(self, message: str) -> ProgrammingError:
        """Return a syntax error at the current token."""
        tokens = self.piece.tokens
        offset = tokens[self.i].start if not self.done else len(self.piece.text)
        return ProgrammingError(
            f"syntax error: {message}", position=line_and_column(self.piece.text, offset)
        )


def create(piece: Piece) -> Statement | None:
    """Read CREATE EXTENSION and CREATE INDEX … USING ann."""
    cursor = Cursor(piece)
    if cursor.take("CREATE", "EXTENSION"):
        missing = cursor.take("IF", "NOT", "EXISTS")
        name = cursor.name("extension name")
        cursor.end()
        return CreateExtension(name, missing)
    cursor.take("CREATE")
    unique = cursor.take("UNIQUE")
    if not cursor.take("INDEX"):
        return None
    methods = [i for i in range(len(piece.tokens)) if piece.word(i) == "USING"]
    if not methods or piece.word(methods[0] + 1) not in INDEX_METHODS:
        return None
    if unique:
        raise cursor.error("a vector index cannot be UNIQUE")
    missing = cursor.take("IF", "NOT", "EXISTS")
    index: str | None = None
    if not cursor.take("ON"):
        index = cursor.name("index name")
        if not cursor.take("ON"):
            raise cursor.error("ON expected")
    table = cursor.table()
    cursor.take("USING")
    cursor.name("index method")
    if not cursor.take("("):
        raise cursor.error("( expected before the column")
    column = cursor.name("column name")
    metric = None
    if piece.word(cursor.i) not in (")", ","):
        opclass = cursor.name("operator class").lower()
        metric = _OPCLASS_METRICS.get(opclass)
        if metric is None:
            known = ", ".join(_OPCLASS_METRICS)
            raise ProgrammingError(
                f'operator class "{opclass}" does not exist', hint=f"known: {known}"
            )
    if not cursor.take(")"):
        raise cursor.error("a vector index has exactly one column; ) expected")
    include: tuple[str, ...] | None = None
    options: list[tuple[str, object]] = []
    while not cursor.done:
        if cursor.take("INCLUDE", "("):
            include = _names(cursor)
        elif cursor.take("WITH", "("):
            options = read_options(cursor)
        else:
            raise cursor.error(f'unexpected "{piece.tokens[cursor.i].text}"')
    return CreateIndex(
        name=index,
        table=table,
        column=column,
        metric=metric,
        include=include,
        options=tuple(options),
        if_not_exists=missing,
    )


def _names(cursor: Cursor) -> tuple[str, ...]:
    names: list[str] = []
    while not cursor.take(")"):
        names.append(cursor.name("column name"))
        if not cursor.take(",") and cursor.piece.word(cursor.i) != ")":
            raise cursor.error(", or ) expected")
    return tuple(names)


def read_options(cursor: Cursor) -> list[tuple[str, object]]:
    """Read `name = value, …)` after an opening parenthesis."""
    options: list[tuple[str, object]] = []
    while not cursor.take(")"):
        name = cursor.name("option name").lower()
        value: object = True
        if cursor.take("=") or cursor.piece.word(cursor.i) not in (",", ")"):
            value = cursor.value()
        options.append((name, value))
        if not cursor.take(",") and cursor.piece.word(cursor.i) != ")":
            raise cursor.error(", or ) expected")
    return options


def drop(piece: Piece) -> Statement | None:
    """Read DROP INDEX."""
    cursor = Cursor(piece)
    if not cursor.take("DROP", "INDEX"):
        return None
    missing = cursor.take("IF", "EXISTS")
    name = cursor.dotted("index name")
    if not cursor.done and piece.word(cursor.i) not in ("CASCADE", "RESTRICT"):
        raise cursor.error(f'unexpected "{piece.tokens[cursor.i].text}"')
    return DropIndex(name=name.rpartition(".")[2], if_exists=missing, text=piece.text)


def reindex(piece: Piece) -> Statement:
    """Read REINDEX [INDEX | TABLE] name."""
    cursor = Cursor(piece)
    cursor.take("REINDEX")
    kind = "table" if cursor.take("TABLE") else "index"
    if kind == "index":
        cursor.take("INDEX")
    name = cursor.dotted(f"{kind} name")
    cursor.end()
    return Reindex(kind, name.rpartition(".")[2])


def analyze(piece: Piece) -> Statement:
    """Read ANALYZE [table]."""
    cursor = Cursor(piece)
    cursor.take("ANALYZE")
    return Analyze(None if cursor.done else cursor.table(), piece.text)


def set_(piece: Piece) -> Statement | None:
    """Read SET name = value."""
    cursor = Cursor(piece)
    cursor.take("SET")
    for scope in ("SESSION", "LOCAL", "GLOBAL"):
        cursor.take(scope)
    if piece.word(cursor.i) in ("VARIABLE", "SCHEMA", "TIME"):
        return Passthrough(text=piece.text, schema_change=piece.word(cursor.i) == "SCHEMA")
    name = cursor.dotted("setting name").lower()
    if not (cursor.take("=") or cursor.take("TO")):
        return Passthrough(text=piece.text)
    if cursor.i + 1 == len(piece.tokens) or piece.word(cursor.i) == "-":
        return SetSetting(name, cursor.value(), piece.text)
    return SetSetting(name, piece.text[piece.tokens[cursor.i].start :], piece.text)


def reset(piece: Piece) -> Statement:
    """Read RESET name."""
    cursor = Cursor(piece)
    cursor.take("RESET")
    for scope in ("SESSION", "LOCAL", "GLOBAL"):
        cursor.take(scope)
    return ResetSetting(cursor.dotted("setting name").lower(), piece.text)


def show(piece: Piece) -> Statement | None:
    """Read SHOW name."""
    cursor = Cursor(piece)
    cursor.take("SHOW")
    if len(piece.tokens) == 1:
        return None
    try:
        name = cursor.dotted("setting name").lower()
    except ProgrammingError:
        return Passthrough(text=piece.text)
    return Show(name, piece.text) if cursor.done else Passthrough(text=piece.text)


def transaction(piece: Piece) -> Statement | None:
    """Read BEGIN, COMMIT, ROLLBACK and their synonyms."""
    actions = {
        "BEGIN": "begin",
        "START": "begin",
        "COMMIT": "commit",
        "END": "commit",
        "ROLLBACK": "rollback",
        "ABORT": "rollback",
    }
    if all(
        piece.word(i) in ("TRANSACTION", "WORK", "READ", "WRITE", "ONLY")
        for i in range(1, len(piece.tokens))
    ):
        return Transaction(actions[piece.word(0)])
    return None
