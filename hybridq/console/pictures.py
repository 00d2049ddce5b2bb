r"""`\img`: looks at an image of the last result, or writes it to a file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hybridq.console import terminal, thumbnails
from hybridq.console.commands import command
from hybridq.console.images import Image, sniff
from hybridq.console.messages import counted
from hybridq.console.values import blob_cell
from hybridq.errors import InterfaceError, OperationalError, ProgrammingError

if TYPE_CHECKING:
    from hybridq.console.shell import Result, Shell

_LARGE = (60, 24)


@command(
    r"\img",
    ".img",
    usage="[ROW|all] [COLUMN] [FILE|open]",
    summary="show, write or open an image of the last result",
    most=3,
    files=True,
)
def image(shell: Shell, arguments: list[str]) -> None:
    r"""Show the image of a row (the first one by default), write it to a file, or open it.

    `\img all faces/` writes all of them into a directory.
    """
    result = shell.result
    if not result.rows:
        raise InterfaceError("there is no result to take an image from")
    rest = list(arguments)
    row: int | None = 1
    if rest and (rest[0].isdecimal() or rest[0].lower() == "all"):
        word = rest.pop(0)
        row = int(word) if word.isdecimal() else None
    names = [column.name.lower() for column in result.columns]
    chosen = names.index(rest.pop(0).lower()) if rest and rest[0].lower() in names else None
    if len(rest) > 1:
        raise ProgrammingError(
            f'there is no column "{rest[0]}" in the last result',
            hint="columns: " + ", ".join(column.name for column in result.columns),
        )
    target = rest[0] if rest else None
    if row is None:
        _write_all(shell, chosen, target)
        return
    if not 1 <= row <= len(result.rows):
        raise ProgrammingError(
            f"there is no row {row}",
            hint=f"the last result shows {counted(len(result.rows), 'row')}",
        )
    data, kind = _image(result, row, chosen)
    if target is None:
        _display(shell, data, row)
    elif target.lower() == "open":
        _open(shell, data, kind)
    else:
        _write(shell, data, kind, Path(target).expanduser())


def _image(result: Result, row: int, chosen: int | None) -> tuple[bytes, Image | None]:
    """Return the bytes of a row's image; of a chosen column they may be anything."""
    values = result.rows[row - 1]
    if chosen is not None:
        value = values[chosen]
        if not isinstance(value, (bytes, bytearray, memoryview)):
            name = result.columns[chosen].name
            raise ProgrammingError(f'column "{name}" of row {row} holds no BLOB')
        return bytes(value), sniff(bytes(value))
    for value in values:
        if isinstance(value, (bytes, bytearray, memoryview)):
            kind = sniff(bytes(value))
            if kind is not None:
                return bytes(value), kind
    raise ProgrammingError(
        f"row {row} of the last result holds no image", hint="select a column with image bytes"
    )


def _display(shell: Shell, data: bytes, row: int) -> None:
    columns, lines = _LARGE
    cells = (min(columns, terminal.columns() - 1), lines)
    drawn = thumbnails.fit(data, terminal.pictures(sys.stdout), cells)
    shell.say(drawn + blob_cell(data))
    if not drawn:
        shell.say(rf"no picture can be shown here: \img {row} FILE writes it")


def _write(shell: Shell, data: bytes, kind: Image | None, path: Path) -> None:
    if path.is_dir():
        path /= "image" + (kind.suffix if kind else ".bin")
    suffix = path.suffix.lower()
    note = ""
    same = kind is None or not suffix or suffix.replace("jpeg", "jpg") == kind.suffix
    if kind is not None and not same:
        converted = thumbnails.convert(data, suffix)
        if converted is None:
            note = f", as {kind.mime}: converting to {suffix} is not possible here"
        data = converted or data
    path.write_bytes(data)
    shell.say(f"wrote {path} ({counted(len(data), 'byte')}{note})")


def _write_all(shell: Shell, chosen: int | None, target: str | None) -> None:
    if target is None:
        raise ProgrammingError(r"\img all needs a directory to write to")
    folder = Path(target).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(shell.result.rows)))
    written = 0
    for row in range(1, len(shell.result.rows) + 1):
        try:
            data, kind = _image(shell.result, row, chosen)
        except ProgrammingError:
            continue
        name = f"{row:0{digits}d}{kind.suffix if kind else '.bin'}"
        (folder / name).write_bytes(data)
        written += 1
    shell.say(f"wrote {counted(written, 'image')} to {folder}")


def _open(shell: Shell, data: bytes, kind: Image | None) -> None:
    """Hand the image to the desktop's viewer, in a file that it may still be reading later."""
    with tempfile.NamedTemporaryFile(
        prefix="hybridq-", suffix=kind.suffix if kind else ".bin", delete=False
    ) as file:
        file.write(data)
    opener = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    try:
        subprocess.Popen(
            [opener, file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise OperationalError(
            f"{opener} cannot be started: {error.strerror}", hint=f"the image is in {file.name}"
        ) from error
    shell.say(f"opened {file.name}")
