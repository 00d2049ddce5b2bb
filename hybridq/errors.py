"""The exceptions of hybridq, as PEP 249 draws them.

    Exception
    ├── Warning
    └── Error                     every error of hybridq
        ├── InterfaceError        wrong use of the Python interface (a closed cursor)
        └── DatabaseError
            ├── DataError         a value cannot be used: wrong dimension, NaN, undecodable image
            ├── OperationalError  files, locks, memory, interrupts: the statement may be right
            │   └── DamagedError  a file of an index is not as it was written
            ├── IntegrityError    a constraint forbids it
            ├── InternalError     a broken invariant of ours: please report it
            ├── ProgrammingError  the statement is wrong: syntax, unknown names, wrong options
            └── NotSupportedError understood, but not offered

No other module defines exceptions.
"""

from __future__ import annotations


class Warning(Exception):  # noqa: N818 - PEP 249 names it so
    """An important warning, such as data truncated on insert."""


class Error(Exception):
    """Base of all errors of hybridq.

    `message` names the thing that is wrong, `hint` the remedy, `position` the
    (line, column) in the statement, both counted from 1. A function sets `given` to the bytes or
    the text that it could not use: what stores that row can be told by it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        position: tuple[int, int] | None = None,
        given: bytes | str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.position = position
        self.given = given

    def __str__(self) -> str:
        text = self.message
        if self.position is not None:
            text += f" (line {self.position[0]}, column {self.position[1]})"
        if self.hint is not None:
            text += f"\nHINT: {self.hint}"
        return text


class InterfaceError(Error):
    """Wrong use of the Python interface, not of the database."""


class DatabaseError(Error):
    """Base of the errors that concern the database."""


class DataError(DatabaseError):
    """A value cannot be used as it is."""


class OperationalError(DatabaseError):
    """Something outside the statement went wrong: a file, a lock, memory, an interrupt."""


class DamagedError(OperationalError):
    """A file of an index is not as it was written; the index is rebuilt from its table."""


class IntegrityError(DatabaseError):
    """A constraint of the database forbids the statement."""


class InternalError(DatabaseError):
    """An invariant of hybridq does not hold."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, unknown names, bad options."""


class NotSupportedError(DatabaseError):
    """The statement is understood and not offered."""


class Uncertain(Exception):  # noqa: N818 - nobody outside sees it
    """What a column will hold when given a value is for the database to say."""
