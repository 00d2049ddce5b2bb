"""Recognises images by their first bytes, without decoding them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Image:
    """What the head of an image file says; width and height are 0 where it does not say."""

    mime: str
    width: int = 0
    height: int = 0

    @property
    def suffix(self) -> str:
        """The usual end of a file's name."""
        return {"image/jpeg": ".jpg", "image/tiff": ".tif"}.get(
            self.mime, "." + self.mime.removeprefix("image/")
        )


def sniff(data: bytes) -> Image | None:
    """Return what image `data` is, None where it is none that is known."""
    try:
        return _sniff(data)
    except struct.error:
        return None


def _sniff(data: bytes) -> Image | None:
    head = data[:32]
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Image("image/png", *struct.unpack_from(">II", head, 16))
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return Image("image/gif", *struct.unpack_from("<HH", head, 6))
    if head.startswith(b"BM") and len(head) >= 26 and head[14:18] in (b"\x28\0\0\0", b"\x7c\0\0\0"):
        width, height = struct.unpack_from("<ii", head, 18)
        return Image("image/bmp", width, abs(height))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    if head[:4] in (b"II*\0", b"MM\0*"):
        return Image("image/tiff")
    if head[4:12] in (b"ftypavif", b"ftypheic"):
        return Image("image/" + head[8:12].decode("ascii"))
    return None


def _jpeg(data: bytes) -> Image:
    """Walk the segments to the frame header, which tells the size."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Image("image/jpeg", width, height)
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return Image("image/jpeg")


def _webp(head: bytes) -> Image:
    kind = head[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(head[24:27], "little") + 1
        height = int.from_bytes(head[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", head, 26))
    else:
        width = height = 0
    return Image("image/webp", width, height)
