"""Faces: found, aligned, described; gender and age."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="the extra `faces` is not installed")

from hybridq.errors import DataError
from udfs.open_analytic.models import faces
from udfs.open_analytic.values import Picture


@pytest.fixture(scope="module")
def find():
    return faces.Faces()


@pytest.fixture(scope="module")
def describe():
    return faces.Descriptors()


@pytest.fixture(scope="module")
def astronaut(photo):
    return photo("astronaut.jpg")


def test_a_portrait_has_one_face_where_it_is(find, picture):
    (face,) = find([picture("astronaut.jpg")])[0]
    # The head of the 512 x 512 photo, by eye: x 165-280, y 65-220.
    assert 150 < face.box.left < 195
    assert 55 < face.box.top < 100
    assert 250 < face.box.right < 290
    assert 165 < face.box.bottom < 225
    assert 0.7 < face.score <= 1
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert face.picture.pixels().shape == (150, 150, 3)


def test_several_people_give_several_faces_largest_first(find, describe, astronaut, picture):
    group = Image.new("RGB", (1100, 512), "grey")
    group.paste(astronaut.resize((300, 300)), (20, 100))
    group.paste(astronaut, (560, 0))
    small, large = 20, 560
    found = find([picture(group)])[0]
    assert len(found) == 2
    assert found[0].box.left > large > found[1].box.left > small
    # One person at two sizes.
    a, b = describe([face.picture for face in found])
    assert np.linalg.norm(a - b) < 0.3


def test_no_face_gives_none_or_if_required_an_error(find, picture):
    assert find([picture("cat.jpg"), picture("coffee.jpg")]) == [[], []]
    (error,) = faces.Faces(required=True)([picture("coffee.jpg")])
    assert isinstance(error, DataError)
    assert str(error) == "no face was found"


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.rotate(25, expand=True, fillcolor="white"),
        lambda image: image.resize((256, 256)),
        lambda image: image.convert("L"),
        lambda image: image.convert("RGBA"),
        lambda image: image.crop((60, 20, 400, 400)),
    ],
    ids=["turned", "small", "grey", "alpha", "cropped"],
)
def test_a_changed_photo_is_the_same_person(find, describe, astronaut, picture, change):
    found = [find([picture(image)])[0] for image in (astronaut, change(astronaut))]
    a, b = describe([face[0].picture for face in found])
    assert a.shape == (128,)
    assert a.dtype == np.float32
    assert np.linalg.norm(a - b) < 0.4


def test_cmyk_and_turned_by_exif(find, describe, astronaut, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    sources = [
        picture(astronaut),
        picture(astronaut.convert("CMYK"), "JPEG", quality=95),
        picture(astronaut.rotate(90), "JPEG", quality=95, exif=exif),
    ]
    vectors = describe([found[0].picture for found in find(sources)])
    assert np.linalg.norm(vectors[0] - vectors[1]) < 0.2
    assert np.linalg.norm(vectors[0] - vectors[2]) < 0.2


def test_gender_and_age(find, picture):
    (face,) = find([picture("astronaut.jpg")])[0]
    (facts,) = faces.People()([face.picture])
    assert facts["gender"] == "female"
    assert 0.5 <= facts["gender_score"] <= 1
    assert 20 < facts["age"] < 50


def test_two_presidents_are_told_apart(find, describe, beside):
    photos = [beside(name).read_bytes() for name in ("obama.jpg", "obama2.jpg", "biden.jpg")]
    found = find([Picture(photo) for photo in photos])
    assert [len(regions) for regions in found] == [1, 1, 1]
    chips = [regions[0].picture for regions in found]
    obama, again, biden = describe(chips)
    assert np.linalg.norm(obama - again) < 0.55
    assert np.linalg.norm(obama - biden) > 0.65
    assert np.linalg.norm(again - biden) > 0.65
    people = faces.People()(chips)
    assert [person["gender"] for person in people] == ["male"] * 3
    assert all(38 < person["age"] < 60 for person in people[:2])
    assert people[2]["age"] > 55


def test_people_of_orl_find_themselves(find, describe, beside):
    people, vectors = [], []
    with tarfile.open(beside("orl_faces.tar.gz")) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            # Three pictures of each of forty people.
            if member.name.endswith(("/1.pgm", "/5.pgm", "/9.pgm")):
                data = tar.extractfile(member).read()
                (found,) = find([Picture(data)])
                assert len(found) == 1, member.name
                vectors += describe([found[0].picture])
                people.append(member.name.split("/")[-2])
    assert len(set(people)) == 40
    matrix = np.stack(vectors)
    distances = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(1)
    right = sum(people[row] == people[near] for row, near in enumerate(nearest))
    assert right >= 118  # of 120


def test_a_vector_does_not_depend_on_its_neighbours(describe, find, astronaut, picture):
    chips = [find([picture(astronaut)])[0][0].picture for _ in range(3)]
    alone = describe(chips[:1])[0]
    for vector in describe(chips):
        np.testing.assert_array_equal(vector, alone)


def test_bad_pictures_are_errors_of_their_rows(find, describe, picture, unusable):
    sources = [Picture(data) for data in unusable.values()]
    for outcomes in (find([*sources, picture("astronaut.jpg")]), describe(sources)):
        for outcome in outcomes[: len(sources)]:
            assert isinstance(outcome, DataError)
    assert len(find([*sources, picture("astronaut.jpg")])[-1]) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (31, 33)])
def test_tiny_and_narrow_pictures_have_no_face(find, picture, size):
    assert find([picture(Image.new("RGB", size, "white"))]) == [[]]


def test_a_side_bounds_what_is_found(astronaut, picture):
    wide = Image.new("RGB", (4000, 2000), "white")
    wide.paste(astronaut.resize((200, 200)), (1000, 1000))
    source = picture(wide)
    assert faces.Faces(side=320)([source]) == [[]]
    (face,) = faces.Faces(side=1600)([source])[0]
    x, y = 1000 / source.scale, 1000 / source.scale
    assert x < face.box.left < face.box.right < x + 200 / source.scale
    assert y < face.box.top < face.box.bottom < y + 200 / source.scale


def test_limit_and_score(astronaut, picture):
    pair = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        pair.paste(astronaut, (left, 0))
    assert len(faces.Faces(limit=1)([picture(pair)])[0]) == 1
    assert faces.Faces(min_score=0.999)([picture(pair)]) == [[]]


def test_a_landmark_is_put_where_the_descriptor_wants_it(find, picture):
    source = picture("astronaut.jpg")
    (face,) = find([source])[0]
    # Found again in its own chip, the eyes are at the template's.
    chip = Image.fromarray(face.picture.pixels())
    (again,) = find([Picture(_png(chip))])[0]
    assert (
        np.abs(again.landmarks[:2] - [[47, 45], [102, 45]]).max() < 8
    )  # a little lower than the mean face


def _png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
