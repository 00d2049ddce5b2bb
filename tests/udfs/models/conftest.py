"""Real pictures and sounds, and what is made of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from udfs.open_analytic.values import Picture

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[3]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the file that Pillow makes of `image`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Image.Image]:
    """Open a picture of the data folder."""

    def get(name: str) -> Image.Image:
        with Image.open(DATA / name) as image:
            return image.convert("RGB")

    return get


@pytest.fixture(scope="session")
def picture() -> Callable[..., Picture]:
    """Make a picture of an image or of a file of the data folder."""

    def make(source: Image.Image | str, kind: str = "PNG", **options: object) -> Picture:
        if isinstance(source, str):
            return Picture((DATA / source).read_bytes())
        return Picture(encoded(source, kind, **options))

    return make


@pytest.fixture(scope="session")
def beside() -> Callable[[str], Path]:
    """Find a file of the data that may lie beside the checkout: too large or not ours to ship."""

    def find(name: str) -> Path:
        for folder in (ROOT.parent, ROOT.parent.parent):
            path = folder / "shared" / "data" / name
            if path.exists():
                return path
        pytest.skip(f"shared/data/{name} does not lie beside the checkout")

    return find


@pytest.fixture(scope="session")
def unusable(photo) -> dict[str, bytes]:
    """Bytes that are no usable picture, by what is wrong with them."""
    whole = encoded(photo("cat.jpg"), "JPEG")
    return {
        "empty": b"",
        "text": b"not a picture",
        "truncated": whole[: len(whole) // 2],
        "bomb": encoded(Image.new("1", (10_000, 10_000)), "PNG"),
    }
