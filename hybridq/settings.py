"""Settings of a session: names, values, checks. Everything else SET names is DuckDB's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from hybridq.errors import ProgrammingError

PLANS = ("auto", "exact", "prefilter", "fused", "bitmap", "postfilter")
PREFIX = "hybridq."


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one session; immutable, replaced as a whole."""

    recall: float = 0.95
    nprobe: int | None = None
    plan: str = "auto"
    calibration: str = "host"
    on_bad_input: str = "error"
    image_precision: str = "auto"
    lock_timeout: int = 5000
    statement_timeout: int = 0
    merge_memory: int = 1 << 30


def _recall(value: Any) -> float:
    number = _number(value)
    if number is None or not 0 < number <= 1:
        raise ValueError("a number above 0 and up to 1")
    return number


def _nprobe(value: Any) -> int | None:
    if value is None or value in ("auto", "default"):
        return None
    number = _number(value)
    if number is None or number < 1 or number != int(number):
        raise ValueError("a whole number of lists from 1 on, or auto")
    return int(number)


_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}


def _milliseconds(value: Any) -> int:
    text = str(value).strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "ms"
    count = _number(number)
    if isinstance(value, bool) or count is None or unit not in _UNITS or not 0 <= count < 1e12:
        raise ValueError("milliseconds, or a time as '500ms', '5s', '2min'")
    return math.ceil(count * _UNITS[unit])


def _shown_time(milliseconds: int) -> str:
    for unit in ("h", "min", "s"):
        if milliseconds and milliseconds % _UNITS[unit] == 0:
            return f"{milliseconds // _UNITS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0"


_SIZES = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def _bytes(value: Any) -> int:
    text = str(value).strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip().replace("ib", "b") or "b"
    count = _number(number)
    if isinstance(value, bool) or count is None or unit not in _SIZES or not 0 < count < 1e15:
        raise ValueError("bytes, or a size as '512MB', '2GB'")
    return math.ceil(count * _SIZES[unit])


def _shown_size(size: int) -> str:
    for unit in ("gb", "mb", "kb"):
        if size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit.upper()}"
    return f"{size}B"


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if str(value).lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return str(value).lower()

    return check


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "recall": _recall,
    "nprobe": _nprobe,
    "plan": _one_of(*PLANS),
    "calibration": _one_of("host", "reference"),
    "on_bad_input": _one_of("error", "null"),
    "image_precision": _one_of("auto", "bf16", "fp32"),
    "lock_timeout": _milliseconds,
    "statement_timeout": _milliseconds,
    "merge_memory": _bytes,
}

DESCRIPTIONS = {
    "recall": "mean recall@k that approximate answers must reach; 1 is exact",
    "nprobe": "inverted lists to visit, for experts; auto lets recall decide",
    "plan": "force a plan: " + ", ".join(PLANS),
    "calibration": "unit costs of the planner: measured on this host, or fixed reference ones",
    "on_bad_input": "what functions do with an image, text or sound they cannot use: error or null",
    "image_precision": "arithmetic of models a database has not used yet: auto, bf16 or fp32",
    "lock_timeout": "how long a write waits for another transaction that writes the table",
    "statement_timeout": "how long a statement may run before it is cancelled; 0 is no limit",
    "merge_memory": "what a merge of an index may hold in memory, for all connections",
}


def checked(name: str, value: Any) -> Any:
    """Return the value a setting takes; ValueError says what is allowed."""
    return _CHECKS[name](value)


@lru_cache(maxsize=256)
def hinted(settings: Settings, hints: tuple[tuple[str, Any], ...]) -> Settings:
    """Return settings as the hints of one select have them: the same object for the same."""
    return replace(settings, **dict(hints))


def is_setting(name: str) -> bool:
    """Tell whether `name` is one of our settings, with or without the prefix `hybridq.`."""
    return _bare(name) in _CHECKS or name.lower().startswith(PREFIX)


def is_of_search(name: str) -> bool:
    """Tell whether a setting is about searches alone: no expression's value depends on it."""
    return _bare(name) in (
        *("recall", "nprobe", "plan", "calibration"),
        *("lock_timeout", "statement_timeout", "merge_memory"),
    )


def _bare(name: str) -> str:
    return name.lower().removeprefix(PREFIX)


def _known(name: str) -> str:
    bare = _bare(name)
    if bare not in _CHECKS:
        raise ProgrammingError(
            f'setting "{name}" does not exist', hint="settings: " + ", ".join(_CHECKS)
        )
    return bare


def with_setting(settings: Settings, name: str, value: Any) -> Settings:
    """Return settings with one changed; ProgrammingError names what is allowed."""
    bare = _known(name)
    try:
        known = _CHECKS[bare](value)
    except ValueError as error:
        raise ProgrammingError(
            f"setting {bare} cannot be {value!r}", hint=f"give {error}"
        ) from error
    return replace(settings, **{bare: known})


def without_setting(settings: Settings, name: str) -> Settings:
    """Return settings with one back at its default."""
    bare = _known(name)
    return replace(settings, **{bare: getattr(Settings(), bare)})


def value_text(settings: Settings, name: str) -> str:
    """Return the value of a setting as SHOW prints it."""
    value = getattr(settings, _known(name))
    if _CHECKS[_bare(name)] is _milliseconds:
        return _shown_time(value)
    if _CHECKS[_bare(name)] is _bytes:
        return _shown_size(value)
    return "auto" if value is None else str(value)


def listing(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Return (name, value, default, description) of every setting."""
    defaults = Settings()
    return [
        (f.name, value_text(settings, f.name), value_text(defaults, f.name), DESCRIPTIONS[f.name])
        for f in fields(Settings)
    ]
