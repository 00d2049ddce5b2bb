"""What the terminal at the other end can show."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Mapping
from typing import Literal, TextIO

Pictures = Literal["kitty", "iterm2", "sixel", "truecolor", "256", "none"]

_STYLES = {"bold": "1", "dim": "2", "red": "1;31", "yellow": "33", "cyan": "36"}

_CONTROLS: dict[int, str] = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 0x85
}
_CONTROLS |= {ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r", 0x85: "\\x85"}
# Marks that reorder what follows could make one value look like another.
_CONTROLS |= {c: f"\\u{c:04x}" for c in (0x2028, 0x2029, *range(0x202A, 0x202F))}
_CONTROLS |= {c: f"\\u{c:04x}" for c in range(0x2066, 0x206A)}
_CONTROLS_BUT_BREAKS = {code: text for code, text in _CONTROLS.items() if code not in (9, 10)}


def visible(text: str, *, keep_breaks: bool = False) -> str:
    """Return `text` with control characters spelled out, so that data cannot drive the terminal."""
    return text.translate(_CONTROLS_BUT_BREAKS if keep_breaks else _CONTROLS)


def display_width(text: str) -> int:
    """Return how many cells `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def truncate(text: str, width: int, ellipsis: str = "…") -> str:
    """Return `text` cut to `width` cells, the last one a mark where something is missing."""
    if display_width(text) <= width:
        return text
    kept: list[str] = []
    left = width - display_width(ellipsis)
    for character in text:
        left -= _character_width(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + ellipsis


def has_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether `stream` is a terminal that takes colours."""
    return stream.isatty() and "NO_COLOR" not in environ and environ.get("TERM") != "dumb"


def paint(text: str, style: str, *, colour: bool) -> str:
    """Return `text` in a style, where colours are wanted."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and text else text


def can_encode(stream: TextIO, text: str) -> bool:
    """Tell whether `stream` can carry `text` as it is."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def columns() -> int:
    """Return the width of the terminal in cells."""
    return shutil.get_terminal_size((80, 24)).columns


def pictures(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Pictures:
    """Return how `stream` can show pictures; HYBRIDQ_PICTURES overrules what is detected."""
    if not has_colour(stream, environ):
        return "none"
    wanted = environ.get("HYBRIDQ_PICTURES", "")
    known: tuple[Pictures, ...] = ("kitty", "iterm2", "sixel", "truecolor", "256", "none")
    for name in known:
        if wanted == name:
            return name
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    # tmux and screen swallow the picture protocols, whatever terminal is behind them.
    if "TMUX" not in environ and not term.startswith(("screen", "tmux")):
        if "KITTY_WINDOW_ID" in environ or "kitty" in term or program.lower() == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
            return "iterm2"
        if term.startswith(("foot", "mlterm")) or "sixel" in term:
            return "sixel"
    if not can_encode(stream, "▀"):
        return "none"
    if environ.get("COLORTERM") in ("truecolor", "24bit") or term.endswith("-direct"):
        return "truecolor"
    return "256" if "256color" in term else "none"
