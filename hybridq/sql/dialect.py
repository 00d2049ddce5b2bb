"""DuckDB's dialect with distance operators, on sqlglot pure or compiled.

With the compiled wheel only Dialect and Tokenizer may be subclassed, so the operators ride on
RANGE-level tokens that DuckDB never uses: that gives them PostgreSQL's precedence (below + and -,
above comparisons). `operators_to_functions` turns the tree that results into function calls.
"""

from __future__ import annotations

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


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text`; raises SqlglotError."""
    # sqlglot refuses a text with a $parameter that ends in ''; a blank after it helps.
    return DIALECT.tokenize(text + " ")


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
