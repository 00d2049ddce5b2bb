# ruff: noqa: T201 - a script, it reports on standard output
"""Measures the models of open_analytic: milliseconds an item on one core, and how often right.

    taskset -c 0 env OMP_NUM_THREADS=1 python tools/bench_models.py \
        [--orl FILE] [--photos FOLDER] [--stamps FOLDER] [--voices FOLDER] [--products FILE]

FILE is ORL's database of faces (orl_faces.tar.gz, folders s1 … s40). The photos are those of the
tests of face_recognition 1.3.0 (PyPI). The stamps are /usr/share/tuxpaint/stamps of Debian's
tuxpaint-stamps-default, the voices /usr/share/asterisk/sounds of its asterisk-core-sounds-{en,es,
fr,it,ru}-wav. The products are a Parquet file with the columns name and article_type. Without them,
only times are measured, and reading, on the pictures and sounds of the tests and on README.
"""

from __future__ import annotations

import argparse
import io
import re
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw, ImageFont

from udfs.image import models
from udfs.image.decode import decode
from udfs.image.precision import best
from udfs.open_analytic import commodity
from udfs.open_analytic.models import (
    audio,
    centerface,
    face_nets,
    faces,
    imagenet,
    minilm,
    nanodet,
    objects,
    ocr,
    speech,
    video,
    voiceprint,
)
from udfs.open_analytic.values import Picture

DATA = Path(__file__).parent.parent / "tests" / "udfs" / "models" / "data"
README = Path(__file__).parent.parent / "README.md"
WOMEN = {"s8", "s10", "s32", "s35"}  # of ORL
LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
REPEATS = 25

Distances = Any


def milliseconds(work: Callable[[], object], items: int = 1) -> float:
    """Return the least time of an item, after a first call that loads what is needed."""
    work()
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1000 / items)
    return min(took)


def report(name: str, value: str) -> None:
    """Print a row."""
    print(f"{name:58} {value}", flush=True)


def times() -> None:
    """Measure each model on an item of the tests."""
    jpeg = (DATA / "astronaut.jpg").read_bytes()
    photo = Picture(jpeg)
    pixels = photo.pixels()
    face = faces.Faces()([photo])[0][0]
    square = face.picture.square(150)[None]
    people = face_nets.age_gender()
    small = np.ascontiguousarray(square[:, 19:131, 19:131])
    clip = audio.decode((DATA / "allison-1.flac").read_bytes())
    long = np.tile(clip.samples, 3)
    seconds = len(long) / audio.RATE
    embed = {name: models.load(models.describe(name), best()) for name in LITES}
    squares = {name: photo.square(models.describe(name).side_pixels)[None] for name in embed}
    rmac = models.load(models.composed("efficientnet_lite0", pooling="rmac"), best())
    recognize = {one.name: one for one in commodity.OPERATORS}["recognize_commodity"]
    items = recognize.load(recognize.checked({}))
    film = clip_of(pixels)
    sign = np.asarray(written(["Departures", "Gate 27 opens at 18:45", "Please keep your bags"]))
    rows: list[tuple[str, Callable[[], object]]] = [
        ("decoding a photo of 512 x 512 to a square", lambda: decode(jpeg, 224)),
        *((f"image feature, {name}", lambda n=name: embed[n].embed(squares[n])) for name in LITES),
        ("image feature, lite0 rmac", lambda: rmac.embed(squares["efficientnet_lite0"])),
        ("commodity, all seven attributes", lambda: items([Picture(pixels=pixels)])),
        ("face detection, 640 px", lambda: centerface.detector().detect([pixels])),
        ("face detection, 320 px", lambda: centerface.detector().detect([pixels], side=320)),
        ("face alignment", lambda: faces.aligned(pixels, face.landmarks)),
        ("face descriptor", lambda: face_nets.face_descriptor().embed(square)),
        ("gender and age", lambda: people.predict(small)),
        ("objects, 224 and 416 px", lambda: nanodet.detector().detect([pixels])),
        ("objects, 640 px besides", lambda: objects.Objects(side=640)([photo])),
        ("ImageNet labels", lambda: imagenet.Labels()([Picture(pixels=pixels)])),
        ("main object cut out", lambda: objects.MainObjects()([Picture(pixels=pixels)])),
        ("OCR, a sign of three lines, 700 x 280", lambda: ocr.reader().read(sign)),
        (
            "text feature, 12 words",
            lambda: minilm.encoder().embed(
                "Men's navy blue cotton shirt with long sleeves for casual summer wear"
            ),
        ),
        (f"speech detection, {seconds:.1f} s", lambda: speech.detector().segments(long)),
        (f"voiceprint, {seconds:.1f} s of speech", lambda: voiceprint.encoder().embed(long)),
        ("sound decoding, 2.7 s of FLAC at 8 kHz", lambda: audio.decode(flac())),
        ("key frames, 10 s of 320 x 240 pixels", lambda: video.KeyFrames()([film])),
    ]
    for name, work in rows:
        report(name, f"{milliseconds(work):7.1f} ms")


def clip_of(pixels: Any) -> bytes:
    """Return a clip of ten seconds in which a picture goes by."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(250):
            shown = np.ascontiguousarray(np.roll(pixels, 2 * number, 1)[:240, :320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def flac() -> bytes:
    """Return a clip of the tests."""
    return (DATA / "allison-1.flac").read_bytes()


def written(lines: Sequence[str], size: int = 40) -> Image.Image:
    """Return a picture of some lines of text."""
    image = Image.new("RGB", (max(700, 34 * size), 2 * size * (len(lines) + 1)), "white")
    font = ImageFont.load_default(size)
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((30, size + 2 * size * row), line, fill="black", font=font)
    return image


def likeness(distances: Distances, names: Sequence[str], k: int) -> str:
    """Return the precision at 1 and k and the equal error rate of a matrix of distances."""
    same = np.array(names)[:, None] == np.array(names)[None]
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, 1)
    hits = np.take_along_axis(same, order, 1)
    pairs = np.triu_indices(len(names), 1)
    values, alike = distances[pairs], same[pairs]
    rates = [
        (max(float((values[alike] > t).mean()), float((values[~alike] <= t).mean())), t)
        for t in np.quantile(values, np.linspace(0, 1, 2001))
    ]
    rate, threshold = min(rates)
    return (
        f"P@1 {hits[:, 0].mean():.4f}, P@{k} {hits[:, :k].mean():.4f}, "
        f"equal error rate {rate:.4f} at {threshold:.2f}"
    )


def orl(path: Path) -> None:
    """Faces of forty people, ten pictures each."""
    names, sources = [], []
    with tarfile.open(path) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            file = tar.extractfile(member) if member.name.endswith(".pgm") else None
            if file is not None:
                names.append(member.name.split("/")[-2])
                sources.append(Picture(file.read()))
    found = faces.Faces()(sources)
    counts = [len(regions) for regions in found]
    report("ORL: pictures with one face found", f"{counts.count(1)} of {len(counts)}")
    chips = [regions[0].picture for regions in found]
    vectors = np.stack(faces.Descriptors()(chips))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    report("ORL: descriptors", likeness(distances, names, 9))
    people = faces.People()(chips)
    right = [
        (person["gender"] == "female") == (name in WOMEN)
        for person, name in zip(people, names, strict=True)
    ]
    report("ORL: gender", f"{np.mean(right):.3f} of {len(right)} pictures")
    by_person = [
        np.mean([r for r, n in zip(right, names, strict=True) if n == name]) > 0.5
        for name in dict.fromkeys(names)
    ]
    report("ORL: gender, majority of a person's ten", f"{sum(by_person)} of {len(by_person)}")


def photos(folder: Path) -> None:
    """Known people, of known age."""
    ages = {"obama.jpg": 51, "biden.jpg": 67}  # 6 December 2012, 10 May 2010
    names = ["obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg"]
    names = [name for name in names if (folder / name).exists()]
    found = faces.Faces()([Picture((folder / name).read_bytes()) for name in names])
    chips = [regions[0].picture for regions in found]
    vectors, people = faces.Descriptors()(chips), faces.People()(chips)
    for name, vector, person in zip(names, vectors, people, strict=True):
        away = ", ".join(f"{np.linalg.norm(vector - other):.2f}" for other in vectors)
        known = f" (is {ages[name]})" if name in ages else ""
        report(name, f"{person['gender']}, {person['age']:.0f} years{known}; distances {away}")


# What of COCO's 80 kinds a stamp shows, by its path.
STAMPS = {
    r"animals/birds/": {"bird"},
    r"bovines/cow": {"cow"},
    r"bovines/sheep": {"sheep"},
    r"bears/[^/]*bear": {"bear"},
    r"bears/toys": {"teddy bear"},
    r"dogs/": {"dog"},
    r"elephant\.": {"elephant"},
    r"equines/horse": {"horse"},
    r"equines/zebra": {"zebra"},
    r"giraffe\.": {"giraffe"},
    r"fruit/apple": {"apple"},
    r"fruit/banana": {"banana"},
    r"fruit/orange|sliced_orange": {"orange"},
    r"food/pizza": {"pizza"},
    r"vegetables/carrot": {"carrot"},
    r"scissors": {"scissors"},
    r"vehicles/auto/|vehicles/race": {"car", "truck"},
    r"vehicles/(emergency|garbage)": {"truck", "car", "bus"},
    r"masstransit/.*bus": {"bus"},
    r"flight/planes": {"airplane"},
    r"vehicles/ship": {"boat"},
}
SCENES = {r"^animals/": "animal", r"^animals/birds/": "bird", r"^food/": "food"}
SCENES |= {r"^vehicles/": "vehicle"}


def stamps(folder: Path) -> None:
    """Single things on white."""
    paths = [p for p in sorted(folder.rglob("*.png")) if not re.search("mirror|cartoon", str(p))]
    shown = {path: str(path.relative_to(folder)) for path in paths}
    pictures = {path: Picture(path.read_bytes()) for path in paths}
    expected = {
        path: labels
        for path, name in shown.items()
        for pattern, labels in STAMPS.items()
        if re.search(pattern, name)
    }
    found = objects.Objects(min_score=0.3)([pictures[path] for path in expected])
    top = sum(
        bool(regions) and regions[0].label in labels
        for regions, labels in zip(found, expected.values(), strict=True)
    )
    among = sum(
        any(region.label in labels for region in regions)
        for regions, labels in zip(found, expected.values(), strict=True)
    )
    report("stamps: right object first", f"{top} of {len(expected)}; found {among}")
    for pattern, attribute in SCENES.items():
        chosen = [pictures[path] for path, name in shown.items() if re.search(pattern, name)]
        others = [pictures[path] for path, name in shown.items() if not re.search(pattern, name)]
        right = _with(attribute, chosen)
        wrong = _with(attribute, others)
        report(
            f"stamps: attribute {attribute}",
            f"{right / len(chosen):.2f} of {len(chosen)}; of {len(others)} others "
            f"{wrong / len(others):.2f}",
        )


def _with(attribute: str, pictures: Sequence[Picture]) -> int:
    found = imagenet.SceneAttributes()(pictures)
    return sum(attribute in {label.label for label in labels} for labels in found)


def voices(folder: Path) -> None:
    """Four speakers in five languages: one of them speaks English and Spanish."""
    rng = np.random.default_rng(0)
    names, sounds = [], []
    for language in sorted(folder.iterdir()):
        clips = sorted(path for path in language.glob("*.wav") if soundfile.info(path).duration > 2)
        for at in rng.permutation(len(clips))[:40]:
            names.append(language.name.split("_")[-1])
            sounds.append(audio.decode(clips[at].read_bytes()))
    vectors = voiceprint.Voiceprints()(sounds)
    good = [row for row, vector in enumerate(vectors) if not isinstance(vector, Exception)]
    seconds = np.mean([len(sound.samples) / audio.RATE for sound in sounds])
    report("voices: clips with speech", f"{len(good)} of {len(sounds)}, {seconds:.1f} s on average")
    matrix = np.stack([vectors[row] for row in good])
    report("voices", likeness(1 - matrix @ matrix.T, [names[row] for row in good], 10))
    # Each as loud as chance has it: a recording's level must not count.
    gains = 10 ** (rng.uniform(-25, 3, len(good)) / 20)
    louder = [
        audio.Sound((sounds[row].samples * gain).clip(-1, 1).astype(np.float32), audio.RATE)
        for row, gain in zip(good, gains, strict=True)
    ]
    again = voiceprint.Voiceprints()(louder)
    kept = [i for i, vector in enumerate(again) if not isinstance(vector, Exception)]
    matrix = np.stack([again[i] for i in kept])
    named = [names[good[i]] for i in kept]
    report("voices, gains of -25 to 3 dB", likeness(1 - matrix @ matrix.T, named, 10))


def reading() -> None:
    """Lines of this project's README, written in three sizes and turned a little."""
    words = re.findall(r"[A-Za-z0-9.,:;()%+-]+", README.read_text("utf-8"))
    lines = [" ".join(words[at : at + 5]) for at in range(0, 5 * 60, 5)]
    for size, degrees in ((40, 0), (20, 0), (14, 0), (20, 7)):
        right = total = 0
        for at in range(0, len(lines), 10):
            page = written(lines[at : at + 10], size)
            page = page.rotate(degrees, expand=True, fillcolor="white")
            text = ocr.plain(ocr.reader().read(np.asarray(page)))
            wanted = "\n".join(lines[at : at + 10])
            total += len(wanted)
            right += len(wanted) - _edits(wanted, text)
        report(f"OCR: characters right, {size} px, turned by {degrees}°", f"{right / total:.3f}")


def _edits(a: str, b: str) -> int:
    """Return Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def products(path: Path) -> None:
    """Names of products find products of their type."""
    table = (
        duckdb.sql(
            f"SELECT name, any_value(article_type) FROM '{path}' GROUP BY name ORDER BY hash(name)"
        )
        .limit(4000)
        .fetchall()
    )
    matrix = np.stack([minilm.encoder().embed(name) for name, _ in table])
    report("product names, type", likeness(1 - matrix @ matrix.T, [t for _, t in table], 10))


def main() -> None:
    """Measure what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("orl", "photos", "stamps", "voices", "products"):
        parser.add_argument(f"--{name}", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    times()
    reading()
    measures = {"orl": orl, "photos": photos, "stamps": stamps}
    measures |= {"voices": voices, "products": products}
    for name, measure in measures.items():
        path = getattr(arguments, name)
        if path is not None:
            measure(path)


if __name__ == "__main__":
    main()
