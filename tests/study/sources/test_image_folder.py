"""Image folders that others made, by mistake or on purpose: what cannot be read is named, and nothing hangs or runs."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.errors import StudyError
from study.home import Home
from study.pictures.decoding import MAX_BYTES
from study.sources.image_folder import decode, read_image
from tests.study.test_data import load, refusal


def odd(folder: Path, name: str = "odd.png") -> Path:
    return folder / "train" / "cat" / name


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it is of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"a shopping list", "format is not known"),
        (b"GIF89a", ""),
        (b"\x89PNG\r\n\x1a\n", ""),
        (b"\xff\xd8\xff\xe0" + bytes(40), ""),
        (POSTSCRIPT, "format is not known"),
        (png_of(0, 0), ""),
        (png_of(32, 32), ""),
        (png_of(8000, 6251), "8000 × 6251 pixels are more than 50,000,000"),
        (png_of(2**31 - 1, 2**31 - 1), "exceeds limit"),
        (b"P6 99999999 99999999 255\n", ""),
        (b"II*\0" + b"\xff" * 40, ""),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(20), ""),
    ],
)
def test_what_is_no_image_is_named_with_the_reason_and_can_be_skipped(
    content: bytes, reason: str, folder: Path, home: Home
) -> None:
    odd(folder).write_bytes(content)
    message = refusal(folder, home)
    assert message.startswith(f"1 of 19 image files cannot be read, the first is {odd(folder)} (")
    assert reason in message
    assert load(folder, home, skip_unreadable=True).skipped == 1


def test_postscript_starts_no_program(folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", start)
    monkeypatch.setattr("subprocess.Popen", start)
    odd(folder).write_bytes(POSTSCRIPT)
    assert "format is not known" in refusal(folder, home)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nowhere", "link to itself"])
def test_what_is_no_ordinary_file_neither_hangs_nor_is_read(kind: str, folder: Path, home: Home) -> None:
    path = odd(folder)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "link to nowhere": "/nowhere"}.get(kind, path))
    if kind == "folder":
        assert len(load(folder, home).train) == 12
        with pytest.raises(StudyError, match="not a regular file"):
            read_image(path)
        return
    assert "1 of 19 image files cannot be read" in refusal(folder, home)
    assert load(folder, home, skip_unreadable=True).skipped == 1


def test_folders_that_link_to_each_other_are_entered_once(folder: Path, home: Home) -> None:
    for name in ("a", "b", "c"):
        (folder / "train" / "cat" / name).symlink_to(folder / "train")
    dataset = load(folder, home)
    # Its own six, and those of the other class that the links lead to, once.
    assert len(dataset.train) == 6 + 12


def test_a_class_that_is_a_link_is_followed(folder: Path, home: Home) -> None:
    before = load(folder, home)
    (folder / "train" / "cat").rename(folder.parent / "elsewhere")
    (folder / "train" / "cat").symlink_to(folder.parent / "elsewhere")
    assert load(folder, home).digest == before.digest


def test_a_file_above_the_limit_is_not_opened(folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    odd(folder).touch()
    os.truncate(odd(folder), MAX_BYTES + 1)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    unreadable, *_ = decode([odd(folder)], np.zeros((1, 3, 32, 32), np.uint8))
    assert unreadable == {0: "536,870,913 bytes are more than 536,870,912"}


def test_the_first_frame_of_an_animation_counts(folder: Path) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    path = odd(folder, "moving.gif")
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(path)[:, 5, 5].tolist() == [255, 0, 0]


def test_pages_and_frames_that_are_not_read_are_counted_at_every_load(folder: Path, home: Home) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    assert "pages" not in load(folder, home).left_out
    frames[0].save(odd(folder, "scan.tiff"), save_all=True, append_images=frames[1:])
    for _ in range(2):  # decoded, then from the cache
        dataset = load(folder, home)
        assert dataset.left_out.endswith(
            "Of 1 image file with several pages or frames only the first is read: train/cat/scan.tiff."
        )
    frames[0].save(odd(folder, "moving.gif"), save_all=True, append_images=frames[1:])
    assert "Of 2 image files with several pages or frames" in load(folder, home).left_out


@pytest.mark.parametrize(
    ("mode", "colour", "suffix"),
    [
        ("CMYK", (0, 255, 255, 0), "jpg"),
        ("P", 1, "png"),
        ("RGBA", (255, 0, 0, 10), "png"),
        ("LA", (200, 0), "png"),
        ("1", 1, "bmp"),
        ("L", 90, "pgm"),
        ("I;16", 65535, "png"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: object, suffix: str, folder: Path) -> None:
    path = odd(folder, f"odd.{suffix}")
    if mode == "I;16":
        Image.fromarray(np.full((9, 7), colour, np.uint16)).save(path)
    else:
        image = Image.new(mode, (7, 9), colour)
        if mode == "P":
            image.putpalette([0, 0, 0, 255, 0, 0])
        image.save(path)
    pixels = read_image(path)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), np.uint8)
    if mode in ("CMYK", "P"):
        assert abs(pixels[:, 16, 16].astype(int) - (255, 0, 0)).max() <= 3
    if mode == "RGBA":
        assert pixels[:, 16, 16].tolist() == [255, 245, 245]
    if mode in ("1", "LA", "I;16"):
        assert (pixels == 255).all()


def test_the_name_does_not_decide_what_a_file_is(folder: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(odd(folder, "a.png"))
    odd(folder, "a.png").rename(odd(folder, "b.gif"))
    assert read_image(odd(folder, "b.gif"))[:, 0, 0].tolist() == [255, 0, 0]
