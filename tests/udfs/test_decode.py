"""Every kind of picture comes out as the same square; damaged ones are named, never guessed."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hybridq.errors import DataError
from udfs.image.decode import decode, decode_whole, squeezed

SIDE = 224
Encode = Callable[..., bytes]
Transpose = Image.Transpose


def difference(data: bytes, expected: bytes) -> float:
    left, right = decode(data, SIDE).astype(int), decode(expected, SIDE).astype(int)
    return float(np.abs(left - right).mean())


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_square_of_bytes(picture: Image.Image, encode: Encode) -> None:
    square = decode(encode(picture, "PNG"), SIDE)
    assert square.shape == (SIDE, SIDE, 3)
    assert square.dtype == np.uint8


@pytest.mark.parametrize(
    ("kind", "options", "allowed"),
    [
        ("JPEG", {"quality": 95}, 2.0),
        ("WEBP", {"quality": 95}, 2.0),
        ("AVIF", {"quality": 90}, 2.0),
        ("GIF", {}, 4.0),
        ("BMP", {}, 0.0),
        ("TIFF", {}, 0.0),
        ("JPEG2000", {}, 0.0),
        ("PPM", {}, 0.0),
    ],
)
def test_formats_agree(
    picture: Image.Image, encode: Encode, kind: str, options: dict[str, int], allowed: float
) -> None:
    assert difference(encode(picture, kind, **options), encode(picture, "PNG")) <= allowed


def test_large_jpeg_is_decoded_at_a_fraction(picture: Image.Image, encode: Encode) -> None:
    large = picture.resize((1600, 1200), Image.Resampling.BICUBIC)
    assert difference(encode(large, "JPEG", quality=95), encode(large, "PNG")) < 2.0


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "RGBA", "CMYK", "YCbCr"])
def test_modes_agree(picture: Image.Image, encode: Encode, mode: str) -> None:
    converted = picture.quantize(256) if mode == "P" else picture.convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    plain = picture if mode in ("RGBA", "P", "CMYK", "YCbCr") else converted.convert("RGB")
    assert difference(encode(converted, kind), encode(plain, "PNG")) < 6.0


def test_cmyk_jpeg(picture: Image.Image, encode: Encode) -> None:
    cmyk = encode(picture.convert("CMYK"), "JPEG", quality=95)
    assert difference(cmyk, encode(picture, "PNG")) < 3.0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(
    picture: Image.Image, encode: Encode, kind: str
) -> None:
    grey = picture.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert difference(encode(deep, kind), encode(grey, "PNG")) < 0.5


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0, 1000.0])
def test_float_greys(picture: Image.Image, encode: Encode, scale: float) -> None:
    grey = np.asarray(picture.convert("L")).astype(np.float32)
    grey *= 255.0 / grey.max()
    deep = Image.fromarray(grey * np.float32(scale))
    flat = Image.fromarray(grey.round().astype(np.uint8))
    assert difference(encode(deep, "TIFF"), encode(flat, "PNG")) < 1.0


@pytest.mark.parametrize(
    ("orientation", "stored_as"),
    [
        (2, Transpose.FLIP_LEFT_RIGHT),
        (3, Transpose.ROTATE_180),
        (4, Transpose.FLIP_TOP_BOTTOM),
        (5, Transpose.TRANSPOSE),
        (6, Transpose.ROTATE_90),
        (7, Transpose.TRANSVERSE),
        (8, Transpose.ROTATE_270),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation(
    picture: Image.Image, encode: Encode, orientation: int, stored_as: Transpose, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encode(picture.transpose(stored_as), kind, exif=exif)
    assert difference(stored, encode(picture, "PNG")) < 2.0
    untold = encode(picture.transpose(stored_as), kind)
    assert difference(untold, encode(picture, "PNG")) > 5.0


def test_damaged_exif_does_not_damage_the_picture(picture: Image.Image, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(picture, "JPEG", quality=95, exif=exif))
    at = data.index(b"Exif\0\0") + 6
    data[at : at + 8] = b"\xff" * 8
    assert difference(bytes(data), encode(picture, "JPEG", quality=95)) == 0.0


def test_transparency_is_white(encode: Encode) -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert (decode(encode(clear, "PNG"), SIDE) == 255).all()
    keyed = Image.new("RGB", (64, 64), (9, 9, 9))
    assert (decode(encode(keyed, "PNG", transparency=(9, 9, 9)), SIDE) == 255).all()
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    assert abs(int(decode(encode(half, "PNG"), SIDE)[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_first_frame_of_an_animation(picture: Image.Image, encode: Encode, kind: str) -> None:
    black = Image.new("RGB", picture.size)
    moving = encode(picture, kind, save_all=True, append_images=[black])
    assert difference(moving, encode(picture, kind)) < 3.0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_smallest_pictures(encode: Encode, size: tuple[int, int]) -> None:
    assert decode(encode(Image.new("RGB", size, "red"), "PNG"), SIDE)[7, 7].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello", b"\xff\xd8\xff", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS"],
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(DataError, match="not a picture in a known format"):
        decode(data, SIDE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_truncated(picture: Image.Image, encode: Encode, kind: str) -> None:
    data = encode(picture, kind)
    with pytest.raises(DataError):
        decode(data[: len(data) // 2], SIDE)


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (10_000, 10_000)])
def test_decompression_bombs(width: int, height: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as programs have it: Pillow warns below its hard limit
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DataError, match=r"too (large|many)"):
            decode(png(width, height, b"\0" * 1000), SIDE)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_bytes_raise_nothing_else(
    picture: Image.Image, encode: Encode, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]))
    small = picture.resize((40, 30))
    damaged = bytearray(encode(small, kind))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(damaged), 400) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            square = decode(bytes(damaged), SIDE)
        except DataError:
            return
    assert square.shape == (SIDE, SIDE, 3)


def test_whole_pictures_keep_their_shape(picture: Image.Image, encode: Encode) -> None:
    pixels, reduction = decode_whole(encode(picture, "PNG"), 2048)
    assert pixels.shape == (240, 320, 3)
    assert reduction == 1
    assert np.array_equal(pixels, np.asarray(picture))
    assert np.array_equal(squeezed(pixels, SIDE), decode(encode(picture, "PNG"), SIDE))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_whole_pictures_are_reduced_to_a_longest_side(
    picture: Image.Image, encode: Encode, kind: str
) -> None:
    large = picture.resize((1000, 750), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels, reduction = decode_whole(encode(large, kind, exif=exif), 200)
    assert pixels.shape == (200, 150, 3)
    assert reduction == pytest.approx(5)
    with pytest.raises(DataError, match="not a picture"):
        decode_whole(b"nothing", 200)
