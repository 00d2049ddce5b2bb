from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridq.console.images import sniff
from hybridq.console.shell import Result, Shell
from hybridq.console.terminal import pictures
from hybridq.console.thumbnails import convert, fit, gallery
from hybridq.console.values import Column, blob_cell

pil = pytest.importorskip("PIL.Image")


def made(kind: str, size: tuple[int, int] = (60, 80), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    pil.new(mode, size, 128).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_images_are_recognised_with_their_size(kind: str) -> None:
    image = sniff(made(kind))
    assert image is not None
    assert (image.mime, image.width, image.height) == (f"image/{kind.lower()}", 60, 80)


def test_tiff_is_recognised() -> None:
    image = sniff(made("TIFF"))
    assert image is not None
    assert image.mime == "image/tiff"


def test_cells_describe_images() -> None:
    data = made("JPEG")
    assert blob_cell(data) == f"<image/jpeg 60×80, {len(data):,} bytes>"


@given(
    st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF"])
)
def test_no_bytes_upset_the_recognition(data: bytes, head: bytes) -> None:
    sniff(head + data)
    blob_cell(head + data)


@pytest.mark.parametrize("cut", [10, 24, 100, -10])
def test_truncated_images_do_no_harm(cut: int) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = made(kind)[:cut]
        blob_cell(data)
        fit(data, "truecolor", (20, 10))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm"}, "none"),
        ({"TERM": "dumb"}, "none"),
        ({"TERM": "tmux-256color", "TMUX": "x", "KITTY_WINDOW_ID": "1"}, "256"),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "none"),
        ({"TERM": "xterm", "HYBRIDQ_PICTURES": "sixel"}, "sixel"),
    ],
)
def test_terminals_are_told_by_their_environment(environ: dict[str, str], expected: str) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert pictures(Tty(), environ) == expected
    assert pictures(io.StringIO(), environ) == "none"


@pytest.mark.parametrize(
    ("how", "start"),
    [
        ("kitty", "\x1b_Ga=T,f=100"),
        ("iterm2", "\x1b]1337;File="),
        ("sixel", "\x1bP0;1q"),
        ("truecolor", "\x1b[38;2;"),
        ("256", "\x1b[38;5;"),
    ],
)
def test_pictures_are_drawn_in_each_protocol(how: str, start: str) -> None:
    drawn = fit(made("PNG"), how, (20, 10))  # type: ignore[arg-type]  # parametrized
    assert drawn.startswith(start)
    assert drawn.endswith("\n")


def test_galleries_have_captions_below() -> None:
    shown = [("1 a.jpg", made("JPEG")), ("2 broken", b"\xff\xd8\xff"), ("3 c.png", made("PNG"))]
    text = "".join(gallery(shown, "truecolor", 80, (16, 8)))
    assert len(text.splitlines()) == 9
    assert text.endswith("1 a.jpg           3 c.png\n")


def test_conversion_follows_the_suffix() -> None:
    converted = convert(made("PNG", mode="RGBA"), ".jpg")
    assert converted is not None
    assert converted.startswith(b"\xff\xd8\xff")
    assert convert(made("PNG"), ".xyz") is None
    assert convert(b"no image", ".png") is None


@pytest.fixture
def album(shell: Shell) -> Shell:
    columns = [Column("name", "VARCHAR"), Column("data", "BLOB"), Column("other", "BLOB")]
    shell.result = Result(
        columns, [("a", made("JPEG"), b"\x00\x01"), ("b", made("PNG"), None), ("c", None, None)]
    )
    return shell


def test_img_writes_the_first_image(album: Shell, tmp_path: Path) -> None:
    assert album.run_text(rf"\img {tmp_path}/first.jpg")
    assert (tmp_path / "first.jpg").read_bytes() == album.result.rows[0][1]


def test_img_takes_a_row_a_column_and_converts(album: Shell, tmp_path: Path) -> None:
    assert album.run_text(rf"\img 2 {tmp_path}/second.jpg")
    assert (tmp_path / "second.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    assert album.run_text(rf"\img 1 other {tmp_path}/raw.bin")
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\x01"


def test_img_all_fills_a_directory(
    album: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert album.run_text(rf"\img all {tmp_path}/out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.jpg", "2.png"]
    assert "wrote 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (r"\img 3", "row 3 of the last result holds no image"),
        (r"\img 9", "there is no row 9"),
        (r"\img 1 name", 'column "name" of row 1 holds no BLOB'),
        (r"\img 1 nope x.png", 'there is no column "nope"'),
        (r"\img 1 /nowhere/x.jpg", "/nowhere/x.jpg: No such file or directory"),
        (r"\img all", "needs a directory"),
    ],
)
def test_img_says_what_is_wrong(
    album: Shell, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not album.run_text(line)
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    assert message in error.splitlines()[0]


def test_img_without_a_result(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert not shell.run_text(r"\img")
    assert "there is no result" in capsys.readouterr().err


def test_img_without_a_terminal_for_it(album: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert album.run_text(r"\img")
    assert "<image/jpeg 60×80" in capsys.readouterr().out
