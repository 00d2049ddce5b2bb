"""From text to statements: what is ours becomes a node, what is DuckDB's stays its own text.

`parse_script` is the whole front: split, correct spellings DuckDB does not know, classify by the
first words, and look for TopK selects wherever a distance is mentioned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from hybridq.errors import ProgrammingError
from hybridq.nodes import (
    Analyze,
    AnyTable,
    CreateExtension,
    CreateIndex,
    DropIndex,
    Embedded,
    Explain,
    Passthrough,
    Reindex,
    ResetSetting,
    SetSetting,
    Show,
    Statement,
    TableName,
    TopK,
    Transaction,
)
from hybridq.sql.capture import table_at, write_of
from hybridq.sql.lexical import (
    Piece,
    apply_edits,
    closing,
    colon_edits,
    line_and_column,
    named,
    piece_of,
    split_script,
    type_edits,
)
from hybridq.sql.topk import DISTANCE_WORDS, NotTopK, has_operator, recognise, rewrite_operators

INDEX_METHODS = ("ANN", "IVFFLAT", "HNSW")
_QUERIES = ("SELECT", "WITH", "FROM", "VALUES", "(", "TABLE")
_DML = ("INSERT", "UPDATE", "DELETE")
_DDL = ("CREATE", "DROP", "ALTER", "COMMENT", "ATTACH", "DETACH", "IMPORT")
_READS = (
    "DESCRIBE",
    "DESC",
    "SUMMARIZE",
    "PRAGMA",
    "CHECKPOINT",
    "FORCE",
    "LOAD",
    "INSTALL",
    "EXPORT",
    "VACUUM",
    "PREPARE",
    "DEALLOCATE",
    "USE",
    "PIVOT",
    "UNPIVOT",
)
_OPCLASS_METRICS = {
    "vector_l2_ops": "l2",
    "vector_cosine_ops": "cosine",
    "vector_ip_ops": "ip",
}


def parse_script(text: str) -> tuple[Statement, ...]:
    """Return the statements of `text`, which may be several.

    Text that cannot even be tokenized goes to DuckDB as it is, to be explained by its parser.
    """
    try:
        pieces = split_script(text)
        return tuple(_statement(_corrected(piece)) for piece in pieces)
    except SqlglotError:
        return (Passthrough(text=text, writes=AnyTable(), schema_change=True),)


def _corrected(piece: Piece) -> Piece:
    edits = colon_edits(piece) + type_edits(piece)
    return piece_of(apply_edits(piece.text, edits)) if edits else piece


def _statement(piece: Piece) -> Statement:
    word = piece.word(0)
    special = _SPECIAL.get(word)
    if special is not None:
        statement = special(piece)
        if statement is not None:
            return statement
    if word in _DML or (word == "WITH" and _mentions(piece, *_DML, "MERGE")):
        return _write(piece)
    if word in _QUERIES:
        return _query(piece)
    if word in _DDL:
        return Passthrough(text=piece.text, writes=AnyTable(), schema_change=True)
    if word in _READS:
        return Passthrough(text=piece.text)
    return Passthrough(text=piece.text, writes=_target(piece), schema_change=word not in _TARGETED)


def _mentions(piece: Piece, *words: str) -> bool:
    """Tell whether a keyword of `words` occurs (as a keyword, not as a quoted name)."""
    return any(
        piece.word(i) in words and piece.tokens[i].token_type != TokenType.VAR
        for i in range(len(piece.tokens))
    )


# -- queries ------------------------------------------------------------------------------------


def _has_distance(piece: Piece) -> bool:
    return has_operator(piece) or any(
        piece.word(i) in DISTANCE_WORDS for i in range(len(piece.tokens))
    )


def _query(piece: Piece) -> Statement:
    if not _has_distance(piece):
        return Passthrough(text=piece.text)
    text, names = named(piece)
    whole = piece_of(text)
    body, with_text, ctes = _after_with(whole)
    found = recognise(body, with_text=with_text, cte_names=ctes)
    if isinstance(found, TopK):
        return replace(found, parameters=names)
    embedded = _embedded(whole)
    if embedded is not None:
        return embedded
    if has_operator(whole):
        rewritten = rewrite_operators(whole)
        if rewritten is not None:
            return Passthrough(text=rewritten, rewritten=True, why_not=found.reason)
    return Passthrough(text=piece.text, why_not=found.reason)


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


def _embedded(piece: Piece) -> Embedded | None:
    """Find TopK selects in parentheses, outermost first."""
    _, _, ctes = _after_with(piece)
    pieces: list[str] = []
    topks: list[TopK] = []
    at = 0
    i = 0
    while i < len(piece.tokens):
        if piece.word(i) == "(" and piece.word(i + 1) == "SELECT":
            end = closing(piece.tokens, i)
            if end is None:
                return None
            start, stop = piece.tokens[i + 1].start, piece.tokens[end - 1].end + 1
            inner = piece_of(piece.text[start:stop])
            found = recognise(inner, cte_names=ctes) if _has_distance(inner) else NotTopK("")
            if isinstance(found, TopK):
                _, used = named(inner)
                pieces.append(piece.text[at:start])
                topks.append(replace(found, parameters=used))
                at = stop
                i = end
        i += 1
    if not topks:
        return None
    pieces.append(piece.text[at:])
    if has_operator(piece):
        fallback = rewrite_operators(piece) or piece.text
        if any(has_operator(piece_of(p)) for p in pieces if p.strip()):
            return None
    else:
        fallback = piece.text
    return Embedded(pieces=tuple(pieces), topks=tuple(topks), fallback=fallback)


# -- writes -------------------------------------------------------------------------------------


def _write(piece: Piece) -> Statement:
    write = write_of(piece)
    text, rewritten = piece.text, False
    if has_operator(piece):
        named_text, _ = named(piece)
        again = rewrite_operators(piece_of(named_text))
        if again is not None:
            text, rewritten = again, True
            write = write_of(piece_of(again))
    if write is None:
        return Passthrough(text=text, writes=_target(piece), rewritten=rewritten)
    return replace(write, rewritten=rewritten)


_TARGETED = ("MERGE", "COPY", "TRUNCATE", "EXECUTE", "CALL")


def _target(piece: Piece) -> TableName | AnyTable | None:
    """Return the table a MERGE, COPY or TRUNCATE writes."""
    word = piece.word(0)
    at = None
    if word == "MERGE" and piece.word(1) == "INTO":
        at = 2
    elif word == "TRUNCATE":
        at = 2 if piece.word(1) == "TABLE" else 1
    elif word == "COPY":
        if piece.word(1) == "(":
            return None
        found = table_at(piece, 1)
        if found is None:
            return AnyTable()
        table, after = found
        if piece.word(after) == "(":
            end = closing(piece.tokens, after)
            after = end + 1 if end is not None else after
        return None if piece.word(after) == "TO" else table
    found = table_at(piece, at) if at is not None else None
    return found[0] if found is not None else AnyTable()


# -- statements of our own ----------------------------------------------------------------------


class _Cursor:
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


def _create(piece: Piece) -> Statement | None:
    cursor = _Cursor(piece)
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
    name = None if cursor.take("ON") else cursor.name("index name")
    if name is not None and not cursor.take("ON"):
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
            options = _options(cursor)
        else:
            raise cursor.error(f'unexpected "{piece.tokens[cursor.i].text}"')
    return CreateIndex(
        name=name,
        table=table,
        column=column,
        metric=metric,
        include=include,
        options=tuple(options),
        if_not_exists=missing,
    )


def _names(cursor: _Cursor) -> tuple[str, ...]:
    names: list[str] = []
    while not cursor.take(")"):
        names.append(cursor.name("column name"))
        if not cursor.take(",") and cursor.piece.word(cursor.i) != ")":
            raise cursor.error(", or ) expected")
    return tuple(names)


def _options(cursor: _Cursor) -> list[tuple[str, object]]:
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


def _drop(piece: Piece) -> Statement | None:
    cursor = _Cursor(piece)
    if not cursor.take("DROP", "INDEX"):
        return None
    missing = cursor.take("IF", "EXISTS")
    name = cursor.dotted("index name")
    if not cursor.done and piece.word(cursor.i) not in ("CASCADE", "RESTRICT"):
        raise cursor.error(f'unexpected "{piece.tokens[cursor.i].text}"')
    return DropIndex(name=name.rpartition(".")[2], if_exists=missing, text=piece.text)


def _reindex(piece: Piece) -> Statement:
    cursor = _Cursor(piece)
    cursor.take("REINDEX")
    kind = "table" if cursor.take("TABLE") else "index"
    if kind == "index":
        cursor.take("INDEX")
    name = cursor.dotted(f"{kind} name")
    cursor.end()
    return Reindex(kind, name.rpartition(".")[2])


def _analyze(piece: Piece) -> Statement:
    cursor = _Cursor(piece)
    cursor.take("ANALYZE")
    return Analyze(None if cursor.done else cursor.table(), piece.text)


def _set(piece: Piece) -> Statement | None:
    cursor = _Cursor(piece)
    cursor.take("SET")
    for scope in ("SESSION", "LOCAL", "GLOBAL"):
        cursor.take(scope)
    if piece.word(cursor.i) in ("VARIABLE", "SCHEMA", "TIME"):
        return Passthrough(text=piece.text)
    name = cursor.dotted("setting name").lower()
    if not (cursor.take("=") or cursor.take("TO")):
        return Passthrough(text=piece.text)
    if cursor.i + 1 == len(piece.tokens) or piece.word(cursor.i) == "-":
        return SetSetting(name, cursor.value(), piece.text)
    return SetSetting(name, piece.text[piece.tokens[cursor.i].start :], piece.text)


def _reset(piece: Piece) -> Statement:
    cursor = _Cursor(piece)
    cursor.take("RESET")
    for scope in ("SESSION", "LOCAL", "GLOBAL"):
        cursor.take(scope)
    return ResetSetting(cursor.dotted("setting name").lower(), piece.text)


def _show(piece: Piece) -> Statement | None:
    cursor = _Cursor(piece)
    cursor.take("SHOW")
    if len(piece.tokens) == 1:
        return None
    try:
        name = cursor.dotted("setting name").lower()
    except ProgrammingError:
        return Passthrough(text=piece.text)
    return Show(name, piece.text) if cursor.done else Passthrough(text=piece.text)


def _transaction(piece: Piece) -> Statement | None:
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


def _explain(piece: Piece) -> Statement:
    cursor = _Cursor(piece)
    cursor.take("EXPLAIN")
    analyze, as_json = False, False
    if cursor.take("("):
        for name, value in _options(cursor):
            if name == "analyze":
                analyze = value is True or value in ("on", 1)
            elif name == "format" and value in ("json", "text"):
                as_json = value == "json"
            else:
                raise ProgrammingError(
                    f'EXPLAIN option "{name}" with value "{value}" is not known',
                    hint="known: ANALYZE, FORMAT JSON, FORMAT TEXT",
                )
    elif cursor.take("ANALYZE"):
        analyze = True
    if cursor.done:
        raise cursor.error("a statement expected after EXPLAIN")
    inner = _statement(piece_of(piece.text[piece.tokens[cursor.i].start :]))
    return Explain(statement=inner, analyze=analyze, json=as_json, text=piece.text)


_SPECIAL: dict[str, Callable[[Piece], Statement | None]] = {
    "CREATE": _create,
    "DROP": _drop,
    "REINDEX": _reindex,
    "ANALYZE": _analyze,
    "SET": _set,
    "RESET": _reset,
    "SHOW": _show,
    "BEGIN": _transaction,
    "START": _transaction,
    "COMMIT": _transaction,
    "END": _transaction,
    "ROLLBACK": _transaction,
    "ABORT": _transaction,
    "EXPLAIN": _explain,
}
