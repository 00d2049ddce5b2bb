"""DuckDB's dialect with distance operators, on sqlglot pure or compiled.

With the compiled wheel only Dialect and Tokenizer may be subclassed, so the operators ride on
RANGE-level tokens that DuckDB never uses: that gives them PostgreSQL's precedence (below + and -,
above comparisons). `operators_to_functions` turns the tree that results into function calls.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

OPERATOR_TOKENS = {
    TokenType.ADJACENT,
    TokenType.AMP_LT,
    TokenType.AMP_GT,
    TokenType.QMARK_PIPE,
}

_OPERATORS = {
    "<->": TokenType.ADJACENT,
    "<=>": TokenType.AMP_LT,
    "<#>": TokenType.AMP_GT,
    "<+>": TokenType.QMARK_PIPE,
}
_TAKEN = ("&<", "&>", "-|-", "<->", "<<->>", "?|", "?::")
_WORDS = {
    TokenType.COMMAND,
    TokenType.EXECUTE,
    TokenType.FETCH,
    TokenType.SHOW,
    TokenType.RENAME,
}


class HybridDialect(DuckDB):
    """DuckDB plus `<->`, `<=>`, `<#>`, `<+>`; EXPLAIN, SHOW and the like stay plain words."""

    class Tokenizer(DuckDB.Tokenizer):
        """DuckDB's tokenizer with the distance operators."""

        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            **{k: v for k, v in DuckDB.Tokenizer.KEYWORDS.items() if k not in _TAKEN},
            **_OPERATORS,
        }
        COMMANDS: ClassVar[set[TokenType]] = DuckDB.Tokenizer.COMMANDS - _WORDS


DIALECT = HybridDialect()

_FUNCTIONS: dict[type[exp.Expr], str] = {
    exp.Adjacent: "l2_distance",
    exp.ExtendsLeft: "cosine_distance",
    exp.ExtendsRight: "negative_inner_product",
    exp.JSONBContainsAnyTopKeys: "l1_distance",
}


# sqlglot takes `$1,$` of `$1,$2` for the beginning of a dollar-quoted string.
_RUN_TOGETHER = re.compile(r"\$\w+[^\w\s$][^\s$]*\$")
_LEXEMES = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/"""
    r"""|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$|(?P<parameter>\$\w+)""",
    re.DOTALL,
)


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text`; raises SqlglotError."""
    # sqlglot refuses a text with a $parameter that ends in ''; a blank after it helps.
    if _RUN_TOGETHER.search(text) is None:
        return DIALECT.tokenize(text + " ")
    ends = [found.end() for found in _LEXEMES.finditer(text) if found["parameter"] is not None]
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    tokens = DIALECT.tokenize(" ".join(pieces) + " ")
    blanks = [end + i for i, end in enumerate(ends)]
    for token in tokens:
        token.start -= bisect_left(blanks, token.start)
        token.end -= bisect_left(blanks, token.end)
    return tokens


def parse_tree(tokens: list[Token], text: str) -> exp.Expr | None:
    """Return the tree of one statement, distances as functions; None if it cannot be parsed."""
    try:
        trees = DIALECT.parser().parse(tokens, text)
    except (SqlglotError, RecursionError):
        return None
    if len(trees) != 1 or trees[0] is None or isinstance(trees[0], exp.Command):
        return None
    return trees[0].transform(_rewrite, copy=False)


def generate(tree: exp.Expr) -> str:
    """Return the DuckDB SQL of `tree`."""
    return tree.sql(dialect=DIALECT)


def _rewrite(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.CosineDistance):
        # It would be printed as list_cosine_distance, which refuses NULL.
        return exp.Anonymous(this="cosine_distance", expressions=[node.this, node.expression])
    function = _FUNCTIONS.get(type(node))
    if function is None:
        return node
    return exp.Anonymous(this=function, expressions=[node.this, node.expression])
