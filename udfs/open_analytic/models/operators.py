"""The operators that the models of this folder make. Importing it loads none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from hybridq.errors import DataError
from udfs.open_analytic.operators import Apply, Operator, Parameter, Parameters, number, whole

_APACHE, _MIT = "Apache-2.0", "MIT"


def _labels(value: Any) -> list[str]:
    from udfs.open_analytic.models.kinds import LABELS

    if not isinstance(value, list) or not set(value) <= set(LABELS):
        raise ValueError("a list of COCO's labels, such as person, dog, handbag")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _score(default: float) -> Parameter:
    return Parameter(
        name="min_score", default=default, description="least confidence", check=number(0, 1)
    )


def _side(default: int, description: str) -> Parameter:
    return Parameter(name="side", default=default, description=description, check=whole(32, 4096))


def _required(what: str) -> Parameter:
    return Parameter(
        name="required",
        default=False,
        description=f"true: a picture without {what} is an error",
        check=_flag,
    )


_LIMIT: Final = Parameter(
    name="limit", default=100, description="most of them in a picture", check=whole(1, 10_000)
)


# -- loaders: each imports what it needs ----------------------------------------


def _faces(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.faces import Faces

    return Faces(**parameters)


def _face_vectors(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.faces import Descriptors

    return Descriptors()


def _people(*facts: str) -> Callable[[Parameters], Apply]:
    def load(parameters: Parameters) -> Apply:
        from udfs.open_analytic.models.faces import People

        return People(facts)

    return load


def _objects(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.objects import Objects

    return Objects(**_given(parameters))


def _main_objects(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.objects import MainObjects

    return MainObjects(**_given(parameters))


def _given(parameters: Parameters) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _classes(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.imagenet import Labels

    return Labels(**parameters)


def _scenes(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.imagenet import SceneAttributes

    return SceneAttributes(**parameters)


def _lines(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models import ocr

    read = ocr.Ocr(**parameters)

    def apply(pictures: Sequence[Any]) -> list[Any]:
        return [
            lines if isinstance(lines, DataError) else ocr.found(lines, picture.scale)
            for picture, lines in zip(pictures, read(pictures), strict=True)
        ]

    return apply


def _image_text(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models import ocr

    read = ocr.Ocr(**parameters)

    def apply(pictures: Sequence[Any]) -> list[Any]:
        return [
            lines if isinstance(lines, DataError) else ocr.plain(lines) for lines in read(pictures)
        ]

    return apply


def _texts(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.minilm import TextFeatures

    return TextFeatures()


def _sounds(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.audio import Sounds

    return Sounds()


def _speech(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.speech import Speech

    return Speech()


def _voiceprints(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.voiceprint import Voiceprints

    return Voiceprints()


def _frames(parameters: Parameters) -> Apply:
    from udfs.open_analytic.models.video import KeyFrames

    return KeyFrames(**parameters)


_READING: Final = (
    _side(960, "pixels that a picture's longer side gets to find lines: 1600 for small print"),
    _score(0.5),
    _required("text"),
)

_GENDER_AGE: Final = "face-api age_gender 1.7.15"
_OCR: Final = "PP-OCRv4 mobile"

_OBJECT_SIDE = _side(416, "pixels that a picture's longer side gets: 640 finds smaller objects")
_KINDS = Parameter(name="labels", default=None, description="only these kinds", check=_labels)

OPERATORS: Final = (
    Operator(
        name="detect_faces",
        description="the faces of a picture, largest first, with landmarks and aligned chips",
        takes="image",
        gives="faces",
        key="faces",
        model="CenterFace",
        licence=_MIT,
        extra="faces",
        parameters=(
            _side(640, "pixels that a picture's longer side gets: more finds smaller faces"),
            _score(0.5),
            _LIMIT,
            _required("a face"),
        ),
        load=_faces,
    ),
    Operator(
        name="embed_face",
        description="an aligned face to a vector, nearer than .55 (L2) for one person",
        takes="image",
        gives="vector",
        key="feature",
        model="dlib face recognition ResNet, 8 bits",
        licence="public domain",
        extra="faces",
        load=_face_vectors,
    ),
    Operator(
        name="recognize_gender",
        description="a face's gender, as a net guesses it from the looks",
        takes="image",
        gives="json",
        model=_GENDER_AGE,
        licence=_MIT,
        extra="faces",
        load=_people("gender"),
    ),
    Operator(
        name="recognize_age",
        description="a face's age in years, as a net guesses it from the looks",
        takes="image",
        gives="json",
        model=_GENDER_AGE,
        licence=_MIT,
        extra="faces",
        load=_people("age"),
    ),
    Operator(
        name="recognize_gender_and_age",
        description="a face's gender and age in one go",
        takes="image",
        gives="json",
        model=_GENDER_AGE,
        licence=_MIT,
        extra="faces",
        load=_people("gender", "age"),
    ),
    Operator(
        name="detect_objects",
        description="the objects of a picture, best first: the 80 kinds of COCO",
        takes="image",
        gives="objects",
        key="objects",
        model="NanoDet-g",
        licence=_APACHE,
        extra="objects",
        parameters=(
            _OBJECT_SIDE,
            _score(0.4),
            _LIMIT,
            _KINDS,
            _required("an object"),
        ),
        load=_objects,
    ),
    Operator(
        name="crop_main_object",
        description="a picture to its main object; where there is none, the whole picture",
        takes="image",
        gives="image",
        model="NanoDet-g",
        licence=_APACHE,
        extra="objects",
        parameters=(
            _OBJECT_SIDE,
            _score(0.4),
            _KINDS,
            _required("an object"),
        ),
        load=_main_objects,
    ),
    Operator(
        name="classify",
        description="the most probable of the 1,000 classes of ImageNet",
        takes="image",
        gives="labels",
        key="labels",
        model="EfficientNet-Lite0",
        licence=_APACHE,
        extra="image",
        parameters=(
            Parameter(name="top", default=5, description="most labels", check=whole(1, 1000)),
            _score(0.05),
        ),
        load=_classes,
    ),
    Operator(
        name="recognize_scene",
        description="attributes of a scene: outdoors, water, animal, food, vehicle and others",
        takes="image",
        gives="labels",
        key="attributes",
        model="EfficientNet-Lite0",
        licence=_APACHE,
        extra="image",
        parameters=(_score(0.3),),
        load=_scenes,
    ),
    Operator(
        name="read_lines",
        description="the lines of text in a picture and their places; Chinese and English",
        takes="image",
        gives="json",
        model=_OCR,
        licence=_APACHE,
        extra="ocr",
        parameters=_READING,
        batch_rows=1,
        load=_lines,
    ),
    Operator(
        name="read_image",
        description="the text in a picture; Chinese and English",
        takes="image",
        gives="text",
        key="text",
        model=_OCR,
        licence=_APACHE,
        extra="ocr",
        parameters=_READING,
        batch_rows=1,
        load=_image_text,
    ),
    Operator(
        name="embed_text",
        description="an English text to a vector, near (cosine) for texts of one meaning",
        takes="text",
        gives="vector",
        key="feature",
        model="all-MiniLM-L6-v2, 8 bits",
        licence=_APACHE,
        extra="text",
        load=_texts,
    ),
    Operator(
        name="decode_sound",
        description="the bytes of a sound file to one channel at 16 kHz",
        takes="bytes",
        gives="audio",
        extra="voice",
        batch_rows=1,
        load=_sounds,
    ),
    Operator(
        name="detect_speech",
        description="from when to when somebody speaks, in seconds",
        takes="audio",
        gives="json",
        model="Silero VAD 6.2.3",
        licence=_MIT,
        extra="voice",
        batch_rows=1,
        load=_speech,
    ),
    Operator(
        name="embed_voice",
        description="speech to a vector, nearer than .25 (cosine distance) for one speaker",
        takes="audio",
        gives="vector",
        key="feature",
        model="Resemblyzer 0.1.4",
        licence=_APACHE,
        extra="voice",
        batch_rows=1,
        load=_voiceprints,
    ),
    Operator(
        name="key_frames",
        description="the bytes of a clip to a frame for each of its shots",
        takes="bytes",
        gives="images",
        key="frames",
        extra="video",
        parameters=(
            Parameter(
                name="change",
                default=0.3,
                description="share of the colours that tells shots apart",
                check=number(0, 1),
            ),
            Parameter(
                name="every",
                default=0.5,
                description="seconds between the frames looked at",
                check=number(0, 3600),
            ),
            Parameter(name="limit", default=100, description="most frames", check=whole(1, 1000)),
        ),
        batch_rows=1,
        load=_frames,
    ),
)
