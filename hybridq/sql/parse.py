"""From text to statements: what is ours becomes a node, what is DuckDB's stays its own text.

`parse_script` is the whole front: split, correct spellings DuckDB does not know, classify by the
first words, and look for TopK selects wherever a distance is mentioned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from hybridq.errors import ProgrammingError
from hybridq.nodes import (
    AnyTable,
    Embedded,
    Explain,
    Passthrough,
    Show,
    Statement,
    TableName,
    TopK,
    Write,
)
from hybridq.sql import own
from hybridq.sql.capture import table_at, write_of
from hybridq.sql.hints import all_hints, refuse_before
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
from hybridq.sql.operators import has_operator, rewrite_operators
from hybridq.sql.queries import has_distance, query, refuse_unheard

_QUERIES = ("SELECT", "WITH", "FROM", "VALUES", "(", "TABLE")
_DML = ("INSERT", "UPDATE", "DELETE", "MERGE")
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
    "PIVOT",
    "UNPIVOT",
)

_CACHED_TEXTS = 512
_CACHED_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Parsed:
    """A statement of a script and where it begins; `verbatim` unless spellings were corrected."""

    statement: Statement
    line: int
    column: int
    verbatim: bool

    def in_script(self, position: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return a position within the statement as one within the script, None if it has none."""
        rewritten = isinstance(self.statement, TopK | Embedded) or (
            isinstance(self.statement, Passthrough | Write) and self.statement.rewritten
        )
        if position is None or not self.verbatim or rewritten:
            return None
        line, column = position
        return line + self.line - 1, column + (self.column - 1 if line == 1 else 0)


class Texts:
    """Texts that were parsed, so that one that comes again is the same statements."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Parsed, ...]] = {}

    def parse(self, text: str) -> tuple[Parsed, ...]:
        """Return the statements of `text`, parsed once per text."""
        known = self._known.get(text)
        if known is None:
            known = parse_script(text)
            if len(text) <= _CACHED_BYTES:
                if len(self._known) >= _CACHED_TEXTS:
                    self._known.clear()
                self._known[text] = known
        return known


def parse_script(text: str) -> tuple[Parsed, ...]:
    """Return the statements of `text`, which may be several.

    Text that cannot even be tokenized goes to DuckDB as it is, to be explained by its parser.
    """
    try:
        pieces = split_script(text)
    except SqlglotError:
        whole = Passthrough(text=text, writes=AnyTable(), schema_change=True)
        return (Parsed(whole, 1, 1, verbatim=True),)
    before = [0, *(piece.start + len(piece.text) for piece in pieces)]
    return tuple(_parsed(text, end, piece) for end, piece in zip(before, pieces, strict=False))


def _parsed(text: str, before: int, piece: Piece) -> Parsed:
    if "/*+" in text and has_distance(piece):
        refuse_before(text, before, piece.start)
    line, column = line_and_column(text, piece.start)
    corrected = _corrected(piece)
    parsed = Parsed(Show("", ""), line, column, verbatim=corrected is piece)
    try:
        return replace(parsed, statement=_statement(corrected))
    except ProgrammingError as error:
        error.position = parsed.in_script(error.position)
        raise


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
    if word in _DML or (word == "WITH" and _mentions(piece, *_DML)):
        return _write(piece)
    if word in _QUERIES:
        return query(piece)
    if word in _DDL:
        return _schema_change(piece)
    if word == "USE":
        return Passthrough(text=piece.text, schema_change=True)  # names mean other tables now
    if word in _READS:
        return Passthrough(text=piece.text)
    target, why = _target(piece)
    return Passthrough(
        text=piece.text,
        writes=target,
        schema_change=word not in _TARGETED,
        inserts=word == "COPY" and isinstance(target, TableName),
        why_opaque=why,
    )


def _schema_change(piece: Piece) -> Passthrough:
    word = piece.word(0)
    keeps_rows = word in ("DROP", "COMMENT", "ATTACH", "DETACH")
    if word == "CREATE":
        replaces = piece.word(1) == "OR" and piece.word(2) == "REPLACE"
        keeps_rows = not replaces and not _modifies_in_with(piece)
    elif word == "ALTER":
        keeps_rows = all(piece.word(i) != "TYPE" for i in range(len(piece.tokens)))
    return Passthrough(
        text=piece.text,
        writes=AnyTable(),
        schema_change=True,
        keeps_rows=keeps_rows,
        why_opaque="it may change rows",
    )


def _modifies_in_with(piece: Piece) -> bool:
    """Tell whether a WITH may hold INSERT, UPDATE or DELETE."""
    return _mentions(piece, "WITH") and _mentions(piece, *_DML)


def _mentions(piece: Piece, *words: str) -> bool:
    """Tell whether a keyword of `words` occurs (as a keyword, not as a quoted name)."""
    return any(
        piece.word(i) in words and piece.tokens[i].token_type != TokenType.VAR
        for i in range(len(piece.tokens))
    )


# -- writes ------------------------------------------------------------------


def _write(piece: Piece) -> Statement:
    if has_distance(piece):
        refuse_unheard(all_hints(piece), (), "DuckDB runs a statement that writes")
    write = write_of(piece)
    text, rewritten = piece.text, False
    if has_operator(piece):
        named_text, _ = named(piece)
        again = rewrite_operators(piece_of(named_text))
        if again is not None:
            text, rewritten = again, True
            write = write_of(piece_of(again))
    if write is None:
        why = "a WITH writes" if piece.word(0) == "WITH" else "its table cannot be told"
        return Passthrough(text=text, writes=AnyTable(), rewritten=rewritten, why_opaque=why)
    return replace(write, rewritten=rewritten)


_TARGETED = ("COPY", "TRUNCATE", "EXECUTE", "CALL")


def _target(piece: Piece) -> tuple[TableName | AnyTable | None, str]:
    """Return the table a COPY or TRUNCATE writes, and why its keys cannot be told."""
    word = piece.word(0)
    if word == "TRUNCATE":
        found = table_at(piece, 2 if piece.word(1) == "TABLE" else 1)
        return (found[0] if found is not None else AnyTable()), "TRUNCATE does not tell keys"
    if word == "COPY":
        return _copied(piece), "a WITH writes"
    if word == "EXECUTE":
        return AnyTable(), "a prepared statement may write any table"
    return AnyTable(), "it may write any table"


def _copied(piece: Piece) -> TableName | AnyTable | None:
    if piece.word(1) == "(":
        return AnyTable() if _modifies_in_with(piece) else None
    found = table_at(piece, 1)
    if found is None:
        return AnyTable()
    table, after = found
    if piece.word(after) == "(":
        end = closing(piece.tokens, after)
        after = end + 1 if end is not None else after
    return None if piece.word(after) == "TO" else table


# -- EXPLAIN -----------------------------------------------------------------


def _explain(piece: Piece) -> Statement:
    cursor = own.Cursor(piece)
    cursor.take("EXPLAIN")
    analyze, as_json = False, False
    if piece.word(1) == "(" and piece.word(2) not in _QUERIES:
        cursor.take("(")
        for name, value in own.read_options(cursor):
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
    start = piece.tokens[cursor.i].start
    if has_distance(piece):
        refuse_before(piece.text, 0, start)
    inner = _statement(piece_of(piece.text[start:]))
    return Explain(statement=inner, analyze=analyze, json=as_json, text=piece.text)


_SPECIAL: dict[str, Callable[[Piece], Statement | None]] = {
    "CREATE": own.create,
    "DROP": own.drop,
    "REINDEX": own.reindex,
    "ANALYZE": own.analyze,
    "SET": own.set_,
    "RESET": own.reset,
    "SHOW": own.show,
    "BEGIN": own.transaction,
    "START": own.transaction,
    "COMMIT": own.transaction,
    "END": own.transaction,
    "ROLLBACK": own.transaction,
    "ABORT": own.transaction,
    "EXPLAIN": _explain,
}
