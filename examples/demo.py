"""Image search by SQL alone: build an album once, then find the photos most like a new one.

    python examples/demo.py [--album album] [--database demo.duckdb] [--results demo-results.png]

The first run imports the album (a minute or less); later runs only search.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hybridq

CREATE = """
CREATE TABLE IF NOT EXISTS album (
    filename TEXT PRIMARY KEY, label TEXT NOT NULL,
    brightness DOUBLE, contrast DOUBLE, saturation DOUBLE, hue TEXT,
    image BLOB NOT NULL, feature FLOAT[1024] NOT NULL)"""

IMPORT = """
INSERT INTO album
SELECT a.filename, a.label, a.brightness, a.contrast, a.saturation, a.hue,
       f.content, extract_feature(f.content)
FROM read_blob('{folder}/photos/*.png') AS f
JOIN read_csv('{folder}/attributes.csv') AS a ON a.filename = parse_filename(f.filename)"""

INDEX = "CREATE INDEX IF NOT EXISTS album_feature ON album USING ann (feature)"

SEARCH = """
SELECT filename, label, brightness, hue, feature <-> extract_feature(?) AS distance
FROM album{where}
ORDER BY distance LIMIT 10"""

FILTERS = (
    ("like the query", ""),
    ("bright", " WHERE brightness > 150"),
    ("dark, cool hues", " WHERE brightness < 110 AND hue IN ('blue', 'cyan', 'green')"),
)


class Bar:
    """Draws progress as one line of text on standard error."""

    WIDTH = 30

    def __init__(self) -> None:
        self._task: str | None = None

    def start(self, task: str, total: int | None) -> None:
        self._task, self._total, self._done = task, total, 0
        self._began_at, self._drawn_at = time.perf_counter(), 0.0

    def advance(self, count: int) -> None:
        if self._task is None:  # a query's single photo
            return
        self._done += count
        if sys.stderr.isatty() and time.perf_counter() - self._drawn_at > 0.1:
            self._draw()

    def finish(self) -> None:
        if self._task is not None:
            self._draw()
            print(file=sys.stderr)
            self._task = None

    def _draw(self) -> None:
        self._drawn_at = time.perf_counter()
        text = f"{self._done:,}"
        if self._total:
            bar = "#" * round(self.WIDTH * min(1.0, self._done / self._total))
            text = f"[{bar:.<{self.WIDTH}}] {text} of {self._total:,}"
        seconds = self._drawn_at - self._began_at
        print(f"\r  {self._task} {text}, {seconds:.1f} s ", end="", file=sys.stderr, flush=True)


def timed(con: hybridq.Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Show a statement, run it, show its time, return its rows."""
    print(sql.strip() + ";")
    began_at = time.perf_counter()
    cursor = con.execute(sql, list(parameters) or None)
    rows = cursor.fetchall() if cursor.description else []
    print(f"-- {(time.perf_counter() - began_at) * 1e3:,.1f} ms\n")
    return rows


def build(con: hybridq.Connection, album: Path) -> None:
    timed(con, "CREATE EXTENSION IF NOT EXISTS open_analytic")
    timed(con, "CREATE EXTENSION IF NOT EXISTS fastann")
    timed(con, CREATE)
    if con.execute("SELECT count(*) FROM album").fetchall()[0][0] == 0:
        timed(con, IMPORT.format(folder=album.as_posix().replace("'", "''")))
    timed(con, INDEX)


def search(con: hybridq.Connection, photo: bytes) -> list[tuple[str, list[Any]]]:
    """Run the searches, print what they find and return it."""
    found = []
    for title, where in FILTERS:
        sql = SEARCH.format(where=where)
        rows = timed(con, sql, [photo])
        for filename, label, brightness, hue, distance in rows:
            print(
                f"  {filename:24} {label:12} brightness {brightness:5.1f}  "
                f"hue {hue:7}  distance {distance:.4f}"
            )
        print()
        found.append((title, rows))
    for row in timed(con, "EXPLAIN ANALYZE " + sql.strip(), [photo]):
        print("  " + str(row[-1]).replace("\n", "\n  "))
    print()
    return found


def contact_sheet(
    con: hybridq.Connection, photo: bytes, found: list[tuple[str, list[Any]]], target: Path
) -> None:
    """Draw the query and, a row for each search, its results with label and distance."""
    from PIL import Image, ImageDraw

    side, margin, left = 112, 10, 132
    step = side + 2 * margin + 26
    most = max(len(rows) for _, rows in found)
    sheet = Image.new("RGB", (left + most * (side + margin) + margin, step * len(found)), "white")
    draw = ImageDraw.Draw(sheet)

    def paste(data: bytes, x: int, y: int, lines: Sequence[str]) -> None:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (x, y))
        for number, line in enumerate(lines):
            draw.text((x, y + side + 2 + 12 * number), line, fill="black")

    for number, (title, rows) in enumerate(found):
        y = number * step + margin
        paste(photo, margin, y, ["the query", title])
        for place, (filename, label, _, _, distance) in enumerate(rows):
            image = con.execute("SELECT image FROM album WHERE filename = ?", [filename])
            x = left + margin + place * (side + margin)
            paste(image.fetchall()[0][0], x, y, [label, f"{distance:.4f}"])
    sheet.save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--album", type=Path, default=Path("album"))
    parser.add_argument(
        "--query", type=Path, help="a photo; default: a bird of the album's queries"
    )
    parser.add_argument("--database", type=Path, default=Path("demo.duckdb"))
    parser.add_argument("--results", type=Path, default=Path("demo-results.png"))
    arguments = parser.parse_args()

    query = arguments.query or arguments.album / "queries" / "bird_3.png"
    for path in (arguments.album / "photos", arguments.album / "attributes.csv", query):
        if not path.exists():
            sys.exit(f"{path} is missing: run this in the repository's root, or name --album")
    began_at = time.perf_counter()
    photo = query.read_bytes()
    con = hybridq.connect(arguments.database, progress=Bar())
    try:
        build(con, arguments.album)
        found = search(con, photo)
        contact_sheet(con, photo, found, arguments.results)
    except hybridq.Error as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        con.close()
    print(f"{arguments.results} shows the results; {time.perf_counter() - began_at:.1f} s in all")


if __name__ == "__main__":
    main()
