"""From the bytes of a picture file to a square of RGB pixels: the first stage of a pipeline.

Imported by the first image only. The whole picture is squeezed into the square: that found better
neighbours than cropping or padding it, on photos and on product pictures.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from hybridq.errors import DataError, OperationalError
from udfs.image.arrays import Pixels

# Formats of photos and screenshots; among Pillow's others are some that start an interpreter.
_WANTED = (
    *("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB"),
    *("TIFF", "JPEG2000", "PPM", "ICO"),
)
_ORIENTATION_TAG = 0x0112
_LONGEST_PIXELS = 4096  # of a picture that a part is cut out of
_Decoded = TypeVar("_Decoded")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _WANTED if name in Image.OPEN)


def decode(data: bytes, side_pixels: int) -> Pixels:
    """Return the picture upright, on white, as RGB (side, side, 3).

    Of an animation the first frame counts. Raises DataError saying what is wrong with `data`.
    """
    return _named(_square, data, side_pixels)


def decode_whole(data: bytes, longest_pixels: int) -> tuple[Pixels, float]:
    """Return the picture upright, on white, as RGB (h, w, 3), and how much it was reduced.

    Neither side is longer than `longest_pixels`; a point times the reduction (1 or more) is the
    point in the file's own pixels. Raises DataError saying what is wrong with `data`.
    """
    return _named(_whole, data, longest_pixels)


def squeezed(pixels: Pixels, side_pixels: int) -> Pixels:
    """Return RGB pixels (h, w, 3) squeezed into a square (side, side, 3), as `decode` does it."""
    image = Image.fromarray(pixels)
    return np.array(
        image.resize((side_pixels, side_pixels), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )


def cropped(data: bytes, box: Sequence[float]) -> bytes:
    """Return the part of a picture in the box (left, top, right, bottom), as a PNG file.

    The box is in pixels of the upright picture. Raises DataError where it holds none of them.
    """
    pixels, reduction = decode_whole(data, _LONGEST_PIXELS)
    height, width = pixels.shape[:2]
    if len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        raise DataError(f"the box {list(box)} is not [left, top, right, bottom]")
    left, top, right, bottom = (float(side) / reduction for side in box)
    left, right = (min(max(side, 0), width) for side in (left, right))
    top, bottom = (min(max(side, 0), height) for side in (top, bottom))
    part = pixels[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)]
    if not part.size or not (left < right and top < bottom):
        raise DataError(f"the box {list(box)} holds nothing of {width} x {height} pixels")
    return png(part)


def png(pixels: Pixels) -> bytes:
    """Return RGB pixels (h, w, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _named(work: Callable[[bytes, int], _Decoded], data: bytes, pixels: int) -> _Decoded:
    try:
        return work(data, pixels)
    except (DataError, OperationalError):
        raise
    except MemoryError as error:
        raise OperationalError("out of memory while decoding a picture") from error
    except UnidentifiedImageError as error:
        raise DataError(f"not a picture in a known format ({', '.join(_formats())})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"too large: {error}") from error
    except Exception as error:
        # Pillow's decoders raise whatever damaged bytes provoke, from struct.error to KeyError.
        raise DataError(str(error) or type(error).__name__) from error


def _square(data: bytes, side_pixels: int) -> Pixels:
    with _opened(data) as image:
        upright = _UPRIGHT.get(_orientation(image))
        # A JPEG file can be decoded at 1/2, 1/4 or 1/8 of its size, at a fraction of the cost.
        image.draft("RGB", (2 * side_pixels, 2 * side_pixels))
        image.load()
        square = _eight_bits(image).resize(
            (side_pixels, side_pixels), Image.Resampling.BICUBIC, reducing_gap=3.0
        )
    return _finished(square, upright)


def _whole(data: bytes, longest_pixels: int) -> tuple[Pixels, float]:
    with _opened(data) as image:
        upright = _UPRIGHT.get(_orientation(image))
        longest = max(image.size)
        image.draft("RGB", (longest_pixels, longest_pixels))
        image.load()
        whole = _eight_bits(image)
        if max(whole.size) > longest_pixels:
            width, height = (
                max(1, round(side * longest_pixels / max(whole.size))) for side in whole.size
            )
            whole = whole.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return _finished(whole, upright), longest / max(whole.size)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        _check_size(*image.size)
        yield image


def _finished(image: Image.Image, upright: Image.Transpose | None) -> Pixels:
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    if upright is not None:
        image = image.transpose(upright)
    return np.array(image)


def _check_size(width: int, height: int) -> None:
    # Pillow only warns up to twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise DataError(
            f"{width:,} x {height:,} pixels are too many, the limit is {limit / 1e6:.0f} megapixels"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error, Warning):
        return 1  # a damaged EXIF block leaves the picture as good as it was


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the picture as RGB or, where it is transparent somewhere, RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(np.asarray(image))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(values: npt.NDArray[Any]) -> Image.Image:
    # Pillow would clip 16-bit greys at 255. The white of other depths is not recorded anywhere.
    grey = np.nan_to_num(values.astype(np.float32))
    brightest = float(grey.max(initial=0.0))
    whites = (65535.0,) if values.dtype == np.uint16 else (1.0, 255.0, 65535.0, brightest)
    white = next(white for white in whites if white >= brightest)
    scaled = (grey * np.float32(255.0 / white)).clip(0, 255).round()
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
