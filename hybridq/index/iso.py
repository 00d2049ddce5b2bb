"""Dates and times in the one spelling that means the same to DuckDB and to Python: ISO 8601.

Anything else is None, and DuckDB's to read.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?)?")
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}(\.\d{1,6})?")


def iso_date(text: str) -> dt.date | None:
    """Read YYYY-MM-DD."""
    return _parse(dt.date.fromisoformat, text) if _DATE.fullmatch(text) else None


def iso_timestamp(text: str) -> dt.datetime | None:
    """Read YYYY-MM-DD, alone or with a time."""
    return _parse(dt.datetime.fromisoformat, text) if _TIMESTAMP.fullmatch(text) else None


def iso_time(text: str) -> dt.time | None:
    """Read HH:MM:SS, with up to six digits of a second."""
    return _parse(dt.time.fromisoformat, text) if _TIME.fullmatch(text) else None


def _parse(parser: Callable[[str], Any], text: str) -> Any:
    try:
        return parser(text)
    except ValueError:
        return None
