"""Text in pictures, Chinese and English: PP-OCRv4 (PaddleOCR, 2023; Du et al., arXiv:2009.09941).

picture ── find lines ── cut out, straighten ── upside down? ── read (CTC)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hybridq.errors import DataError, Error
from udfs.open_analytic.models import geometry, runtime, text_regions
from udfs.open_analytic.models.text_regions import Rectangle
from udfs.open_analytic.values import Picture, Pixels

_MULTIPLE = 32
_MOST_GROWN = 2.0  # small pictures are not blown up further
_LINE_PIXELS = 48  # height of a line as the nets read it
_TURN_WIDTH = 192
_TURNED = 0.9  # probability from which a line is turned
_LEAST_WIDTH, _MOST_WIDTH = 320, 4800  # of a line; shorter ones are padded, as in training
_UPRIGHT = 1.5  # height to width from which a line runs downwards


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; `corners` (4, 2) are clockwise from its upper left, in the picture."""

    text: str
    score: float
    corners: npt.NDArray[np.float32]


class Reader:
    """Reads pictures."""

    def __init__(self) -> None:
        self._finder = runtime.network("ocr_detect")
        self._turner = runtime.network("ocr_turn")
        self._reader = runtime.network("ocr_read")
        # Class 0 is CTC's blank; the last one, the space, is not in the file's list.
        self._characters = ["", *self._reader.note("character").splitlines(), " "]

    def read(self, pixels: Pixels, *, side: int = 960, min_score: float = 0.5) -> list[Line]:
        """Return the lines of an RGB picture (h, w, 3) in reading order.

        Its longer side is resized to `side` to find them; they are read at full size.
        """
        height, width = pixels.shape[:2]
        scale = min(side / max(height, width), _MOST_GROWN)
        # The net wants multiples of 32; the picture is stretched a little rather than padded.
        high, wide = (
            max(round(length * scale / _MULTIPLE), 1) * _MULTIPLE for length in (height, width)
        )
        found = self._finder.first(x=_planes(geometry.resized(pixels, wide, high)))[0, 0]
        lines = []
        for rectangle in text_regions.rectangles(found):
            corners = rectangle.corners() * [width / wide, height / high]
            line = self._read_line(pixels, _rectangle(corners))
            if line.text.strip() and line.score >= min_score:
                lines.append(line)
        return in_order(lines)

    def _read_line(self, pixels: Pixels, rectangle: Rectangle) -> Line:
        corners = rectangle.corners()
        across, down = rectangle.width, rectangle.height
        if down >= _UPRIGHT * across:  # turned to the left, as the reader was trained
            corners, across, down = np.roll(corners, -1, 0), down, across
        width = int(np.clip(np.ceil(_LINE_PIXELS * across / max(down, 1.0)), 8, _MOST_WIDTH))
        target = np.array([[0, 0], [width, 0], [0, _LINE_PIXELS]])
        matrix = _affine(corners[[0, 1, 3]], target)
        # Bilinear blurs small print: of letters 20 pixels high 92 % were read instead of 99 %.
        strip = geometry.warped(
            pixels, matrix, width, _LINE_PIXELS, resample=Image.Resampling.BICUBIC
        )
        if self._upside_down(strip):
            strip, corners = np.ascontiguousarray(strip[::-1, ::-1]), np.roll(corners, 2, 0)
        text, score = self._text(strip)
        edges = np.array(pixels.shape[1::-1])
        return Line(text, score, corners.clip(0, edges).astype(np.float32))

    def _upside_down(self, strip: Pixels) -> bool:
        width = min(strip.shape[1], _TURN_WIDTH)
        x = _padded(_planes(geometry.resized(strip, width, _LINE_PIXELS)), _TURN_WIDTH)
        return bool(self._turner.first(x=x)[0, 1] > _TURNED)

    def _text(self, strip: Pixels) -> tuple[str, float]:
        """Return the text and the mean probability of its characters."""
        x = _padded(_planes(strip), max(strip.shape[1], _LEAST_WIDTH))
        steps = self._reader.first(x=x)[0]
        best = steps.argmax(1)
        # CTC (Graves et al., ICML 2006, §3.1): repeats are one, blanks none.
        new = best != 0
        new[1:] &= best[1:] != best[:-1]
        scores = steps[new, best[new]]
        text = "".join(self._characters[i] for i in best[new])
        return text, float(scores.mean()) if len(scores) else 0.0


def _planes(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return RGB (h, w, 3) as the nets want it: (1, 3, h, w), BGR, -1 … 1."""
    x = pixels[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    return x / np.float32(127.5) - np.float32(1)


def _padded(planes: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    return np.pad(planes, ((0, 0), (0, 0), (0, 0), (0, max(width - planes.shape[3], 0))))


def _rectangle(corners: npt.NDArray[Any]) -> Rectangle:
    """Return the rectangle of corners that were stretched a little with the picture."""
    x, y = corners.mean(0)
    along = (corners[1] + corners[2] - corners[0] - corners[3]) / 2
    down = (corners[2] + corners[3] - corners[0] - corners[1]) / 2
    angle = float(np.arctan2(along[1], along[0]))
    width, height = float(np.linalg.norm(along)), float(np.linalg.norm(down))
    return Rectangle(float(x), float(y), width, height, angle)


def _affine(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the (2, 3) matrix that brings three points to three."""
    points = np.hstack([source, np.ones((3, 1))])
    return np.asarray(np.linalg.solve(points, target.astype(np.float64)).T)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Return lines from top to bottom, those beside each other from left to right.

    Top and left are those of the text, as most of it is turned. Beside each other is what overlaps
    by half of the lower height.
    """
    if not lines:
        return []
    across = sum(line.corners[1] - line.corners[0] for line in lines)
    x, y = across / max(float(np.linalg.norm(across)), 1e-9)
    # Corners as (along, down) of the text.
    placed = [(line.corners @ np.array([[x, -y], [y, x]]), line) for line in lines]
    rows: list[list[tuple[npt.NDArray[Any], Line]]] = []
    for corners, line in sorted(placed, key=lambda pair: float(pair[0][:, 1].mean())):
        top, bottom = corners[:, 1].min(), corners[:, 1].max()
        if rows:
            head = rows[-1][0][0][:, 1]
            common = min(bottom, head.max()) - max(top, head.min())
            if common > 0.5 * min(bottom - top, head.max() - head.min()):
                rows[-1].append((corners, line))
                continue
        rows.append([(corners, line)])
    return [
        line for row in rows for _, line in sorted(row, key=lambda pair: float(pair[0][:, 0].min()))
    ]


@functools.cache
def reader() -> Reader:
    """Return the reader of this process."""
    return Reader()


class Ocr:
    """Reads pictures: pictures in, lines of text out.

    `side` is what the longer side of a picture is resized to before lines are looked for: pages of
    small print want 1600 and more. `min_score` is the least confidence of a line. Where `required`,
    a picture without text is a DataError.
    """

    def __init__(self, *, side: int = 960, min_score: float = 0.5, required: bool = False) -> None:
        self._reader = reader()
        self._side = side
        self._min_score = min_score
        self._required = required

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the lines (list[Line]) of each picture, or its error."""
        return [self._lines(picture) for picture in pictures]

    def _lines(self, picture: Picture) -> list[Line] | Error:
        try:
            pixels = picture.pixels()
        except DataError as error:
            return error
        lines = self._reader.read(pixels, side=self._side, min_score=self._min_score)
        if self._required and not lines:
            return DataError("no text was found")
        return lines


def plain(lines: Sequence[Line]) -> str:
    """Return the text of lines, one a row."""
    return "\n".join(line.text for line in lines)


def found(lines: Sequence[Line], scale: float = 1.0) -> dict[str, Any]:
    """Return lines as JSON: {"text", "lines": [{"text", "score", "corners"}]}.

    Corners are multiplied by `scale`: of the file's own pixels to those of the picture.
    """
    return {
        "text": plain(lines),
        "lines": [
            {
                "text": line.text,
                "score": round(line.score, 4),
                "corners": [[round(float(side) * scale, 1) for side in c] for c in line.corners],
            }
            for line in lines
        ],
    }
