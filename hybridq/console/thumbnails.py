"""Shows pictures in the terminal, where it can: by its own protocol, or in half blocks of colour.

Pillow does the decoding; without it, or for what it cannot decode, there is simply no picture.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hybridq.console.terminal import Pictures, display_width, truncate, visible

if TYPE_CHECKING:
    from PIL.Image import Image

_CELL = (10, 20)
"""Pixels of a cell, as terminals commonly have them: only the size of the picture depends on it."""
_MOST_PIXELS = 100_000_000
_KITTY_CHUNK = 4096


def decode(data: bytes, room: tuple[int, int]) -> Image | None:
    """Return the picture made to fit into `room` pixels, None where that cannot be."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data))
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft("RGB", room)
            turned = ImageOps.exif_transpose(picture).convert("RGB")
            return ImageOps.contain(turned, room)
    except Exception:  # noqa: BLE001 - decoders fail in many ways, and a picture is a nicety
        return None


def gallery(
    pictures: Sequence[tuple[str, bytes]], how: Pictures, columns: int, size: tuple[int, int]
) -> Iterator[str]:
    """Yield what draws captioned pictures side by side, each within `size` cells."""
    width, height = size
    across = max(1, columns // (width + 2))
    room = _pixels(how, width, height)
    decoded = [(caption, decode(data, room)) for caption, data in pictures]
    drawn = [(caption, picture) for caption, picture in decoded if picture is not None]
    for start in range(0, len(drawn), across):
        part = drawn[start : start + across]
        cells = ((width + 2) * len(part), height)
        yield draw(_side_by_side([p for _, p in part], room, _pixels(how, *cells)), how, cells)
        captions = [truncate(visible(caption), width) for caption, _ in part]
        yield "".join(c + " " * (width + 2 - display_width(c)) for c in captions).rstrip() + "\n"


def draw(picture: Image, how: Pictures, cells: tuple[int, int]) -> str:
    """Return what draws `picture` over `cells` (columns, lines), with the cursor below it."""
    match how:
        case "kitty":
            return _kitty(picture, cells)
        case "iterm2":
            data = base64.b64encode(_png(picture)).decode("ascii")
            size = f"width={cells[0]};height={cells[1]};preserveAspectRatio=1;inline=1"
            return f"\x1b]1337;File={size}:{data}\a\n"
        case "sixel":
            return _sixel(picture)
        case "truecolor" | "256":
            return _half_blocks(picture, how)
        case "none":
            return ""


def fit(data: bytes, how: Pictures, cells: tuple[int, int]) -> str:
    """Return what draws the image `data` as large as `cells` allow, '' where that cannot be."""
    picture = decode(data, _pixels(how, *cells))
    if picture is None or how == "none":
        return ""
    wide, high = _pixels(how, 1, 1)
    return draw(picture, how, (-(-picture.width // wide), -(-picture.height // high)))


def convert(data: bytes, suffix: str) -> bytes | None:
    """Return the image in the format that a file name's `suffix` stands for, None if impossible."""
    try:
        from PIL import Image
    except ImportError:
        return None
    kind = Image.registered_extensions().get(suffix.lower())
    if kind is None:
        return None
    try:
        picture = Image.open(io.BytesIO(data))
        if kind == "JPEG" and picture.mode not in ("RGB", "L", "CMYK"):
            picture = picture.convert("RGB")  # type: ignore[assignment]  # a base class, only saved
        out = io.BytesIO()
        picture.save(out, kind)
    except Exception:  # noqa: BLE001 - the caller then writes the bytes as they are
        return None
    return out.getvalue()


def _pixels(how: Pictures, columns: int, lines: int) -> tuple[int, int]:
    if how in ("truecolor", "256"):
        return columns, lines * 2
    return columns * _CELL[0], lines * _CELL[1]


def _side_by_side(pictures: Sequence[Image], room: tuple[int, int], size: tuple[int, int]) -> Image:
    from PIL import Image

    sheet = Image.new("RGBA", size)
    step = size[0] // len(pictures)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i * step, room[1] - picture.height))
    return sheet


def _png(picture: Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _kitty(picture: Image, cells: tuple[int, int]) -> str:
    data = base64.b64encode(_png(picture)).decode("ascii")
    chunks = [data[i : i + _KITTY_CHUNK] for i in range(0, len(data), _KITTY_CHUNK)]
    parts: list[str] = []
    for i, chunk in enumerate(chunks):
        control = f"a=T,f=100,q=2,c={cells[0]},r={cells[1]}," if i == 0 else ""
        parts.append(f"\x1b_G{control}m={int(i < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(parts) + "\n"


def _half_blocks(picture: Image, how: Pictures) -> str:
    """Draw two pixels per cell: a half block has the upper one's colour on the lower one's."""
    raw, width, height = picture.convert("RGBA").tobytes(), picture.width, picture.height

    def colour(x: int, y: int) -> str:
        """Return the colour of a pixel, '' where there is none."""
        at = (y * width + x) * 4
        if y >= height or not raw[at + 3]:
            return ""
        red, green, blue = raw[at : at + 3]
        if how == "truecolor":
            return f"2;{red};{green};{blue}"
        cube = [round(value / 255 * 5) for value in (red, green, blue)]
        return f"5;{16 + 36 * cube[0] + 6 * cube[1] + cube[2]}"

    def cell(x: int, y: int) -> str:
        match colour(x, y), colour(x, y + 1):
            case "", "":
                return "\x1b[0m "
            case "", lower:
                return f"\x1b[0;38;{lower}m▄"
            case upper, "":
                return f"\x1b[0;38;{upper}m▀"
            case upper, lower:
                return f"\x1b[38;{upper};48;{lower}m▀"

    lines = ("".join([cell(x, y) for x in range(width)]) for y in range(0, height, 2))
    return "".join(line + "\x1b[0m\n" for line in lines)


def _sixel(picture: Image) -> str:
    """Encode with a palette of 64 colours; each band of six lines has one pass per colour."""
    reduced = picture.convert("RGB").quantize(64)
    palette, raw, width = reduced.getpalette() or [], reduced.tobytes(), reduced.width
    opaque = picture.convert("RGBA").getchannel("A").tobytes()
    used = sorted(set(raw))
    out = [f'\x1bP0;1q"1;1;{width};{reduced.height}']
    for index in used:
        red, green, blue = (value * 100 // 255 for value in palette[index * 3 : index * 3 + 3])
        out.append(f"#{index};2;{red};{green};{blue}")
    for top in range(0, reduced.height, 6):
        starts = [y * width for y in range(top, min(top + 6, reduced.height))]
        for index in sorted({raw[s + x] for s in starts for x in range(width) if opaque[s + x]}):
            bits = [
                sum(
                    (raw[start + x] == index and opaque[start + x] > 0) << bit
                    for bit, start in enumerate(starts)
                )
                for x in range(width)
            ]
            out.append(f"#{index}{_runs(bits)}$")
        out.append("-")
    return "".join(out) + "\x1b\\\n"


def _runs(bits: Sequence[int]) -> str:
    """Encode sixels with repeats shortened."""
    out: list[str] = []
    at = 0
    while at < len(bits):
        end = at
        while end < len(bits) and bits[end] == bits[at]:
            end += 1
        character, count = chr(63 + bits[at]), end - at
        out.append(f"!{count}{character}" if count > 3 else character * count)
        at = end
    return "".join(out)
