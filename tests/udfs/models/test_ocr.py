"""Text read from pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

pytest.importorskip("onnxruntime", reason="the extra `ocr` is not installed")

from hybridq.errors import DataError
from udfs.open_analytic.models import ocr, text_regions
from udfs.open_analytic.values import Picture

SIGN = ["Departures", "Gate 27 opens at 18:45", "Please keep your bags"]


def written(lines, *, size=40, paper="white", ink="black"):
    image = Image.new("RGB", (700, 40 + 2 * size * len(lines)), paper)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((30, 30 + 2 * size * row), line, fill=ink, font=ImageFont.load_default(size))
    return image


@pytest.fixture(scope="module")
def read():
    return ocr.Ocr()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 12, -20])
def test_a_sign_is_read_in_order_however_it_is_turned(read, picture, degrees):
    turned = written(SIGN).rotate(degrees, expand=True, fillcolor="white")
    (lines,) = read([picture(turned)])
    assert [line.text for line in lines] == SIGN
    assert all(line.score > 0.9 for line in lines)
    assert ocr.plain(lines) == "\n".join(SIGN)


@pytest.mark.parametrize(
    ("paper", "ink"), [("black", "white"), ("#204080", "#ffe080"), ("#ddd", "#888")]
)
def test_colours(read, picture, paper, ink):
    (lines,) = read([picture(written(SIGN, paper=paper, ink=ink))])
    assert [line.text for line in lines] == SIGN


def test_corners_are_around_the_words(read, picture):
    (lines,) = read([picture(written(["one line"]))])
    (line,) = lines
    left, top = line.corners.min(0)
    right, bottom = line.corners.max(0)
    assert 20 < left < 40
    assert 25 < top < 45
    assert 150 < right < 220
    assert 60 < bottom < 90


def test_words_side_by_side_are_read_from_left_to_right(read, picture):
    image = written(["", ""])
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(36)
    for place, word in (((450, 34), "east"), ((30, 30), "west"), ((30, 120), "south")):
        draw.text(place, word, fill="black", font=font)
    (lines,) = read([picture(image)])
    assert [line.text for line in lines] == ["west", "east", "south"]


def test_a_photo_without_text(read, picture):
    assert read([picture("cat.jpg")]) == [[]]
    (error,) = ocr.Ocr(required=True)([picture("cat.jpg")])
    assert str(error) == "no text was found"


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (5, 5)])
def test_tiny_and_narrow_pictures(read, picture, size):
    assert read([picture(Image.new("RGB", size, "white"))]) == [[]]


def test_bad_pictures_are_errors_of_their_rows(read, picture, unusable):
    sources = [Picture(data) for data in unusable.values()]
    *bad, good = read([*sources, picture(written(["fine"]))])
    assert all(isinstance(outcome, DataError) for outcome in bad)
    assert ocr.plain(good) == "fine"


def test_small_print_wants_a_larger_side(picture):
    page = Image.new("RGB", (1800, 1200), "white")
    page.paste(written(["very small print on a page"], size=13), (900, 600))
    (lines,) = ocr.Ocr(side=1800)([picture(page)])
    assert ocr.plain(lines).replace(" ", "") == "verysmallprintonapage"


masks = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=12
    )
)


@given(masks)
def test_components_are_those_of_a_flood_fill(rows):
    mask = np.array(rows, bool)
    expected = []
    left = {(int(x), int(y)) for y, x in np.argwhere(mask)}
    while left:
        part, border = set(), [left.pop()]
        while border:
            x, y = border.pop()
            part.add((x, y))
            near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            border += near
        expected.append(part)

    def outline(part):
        spans = {}
        for x, y in part:
            low, high = spans.get(y, (x, x))
            spans[y] = (min(low, x), max(high, x))
        return sorted((y, *span) for y, span in spans.items())

    found = [outline({(int(x), int(y)) for x, y in part}) for part in text_regions.components(mask)]
    assert sorted(found) == sorted(outline(part) for part in expected)


@given(
    st.floats(20, 80),
    st.floats(20, 80),
    st.floats(5, 60),
    st.floats(5, 60),
    st.floats(-0.78, 0.78),
)
def test_the_smallest_rectangle_of_a_rectangle_is_itself(x, y, width, height, angle):
    given_one = text_regions.Rectangle(x, y, width, height, angle)
    corners = given_one.corners()
    found = text_regions.smallest_rectangle(np.vstack([corners, corners.mean(0)]))
    assert found.width * found.height == pytest.approx(width * height, rel=1e-6)
    np.testing.assert_allclose([found.x, found.y], [x, y], atol=1e-6)
    np.testing.assert_allclose(
        np.sort(found.corners(), axis=0), np.sort(corners, axis=0), atol=1e-5
    )
