"""What a file is: decided by its first bytes where its name does not say."""

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.sources.formats import ARCHIVES, FORMATS, IGNORED, IMAGES, OTHER, SUFFIXES, kind_of
from study.sources.image_folder import read_image

RED = Image.new("RGB", (32, 32), "red")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", ["", ".jfif", ".heic", ".part", ".txt"])
def test_an_image_that_is_read_is_known_by_its_content_whatever_it_is_called(
    name: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"photo{ending}"
    RED.save(path, name)
    assert kind_of(path, trust_ending=False) == IMAGES
    assert abs(read_image(path)[:, 16, 16].astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(("mode", "ending"), [("1", "pbm"), ("L", "pgm"), ("RGBA", "ico"), ("RGBA", "avif")])
def test_other_modes_of_a_format_are_known_too(mode: str, ending: str, tmp_path: Path) -> None:
    Image.new(mode, (32, 32)).save(tmp_path / f"a.{ending}")
    (tmp_path / f"a.{ending}").rename(tmp_path / "a")
    assert kind_of(tmp_path / "a") == IMAGES


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported HEIC images"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "unsupported HEIC images"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", IMAGES),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", OTHER),
        (b"\xff\x0a\xfa\x7f", "unsupported JXL images"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "unsupported JXL images"),
        (b"8BPS\0\1", "unsupported PSD images"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "unsupported EPS images"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "unsupported SVG images"),
        (b"qoif\0\0\0\1", "unsupported QOI images"),
        (b"DDS |\0\0\0", "unsupported DDS images"),
        (bytes(128) + b"DICM", "unsupported DICOM images"),
        (b"\x1f\x8b\x08\0", ARCHIVES),
        (b"Rar!\x1a\x07\1\0", ARCHIVES),
        (b"RIFF\x24\0\0\0WAVEfmt ", OTHER),
        (b"BM is how this text begins", OTHER),
        (b"P2 is not a picture", OTHER),
        (b"\0\0\1\0", OTHER),
        (b"%PDF-1.7", OTHER),
        (b"", OTHER),
        (b"P", OTHER),
    ],
)
def test_a_file_without_an_ending_is_what_it_begins_as(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert kind_of(tmp_path / "file") == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.HEIC", "unsupported HEIC images"),
        ("a.jxl", "unsupported JXL images"),
        ("a.tga", "unsupported TGA images"),
        ("a.parquet", ARCHIVES),
        ("notes.txt", IGNORED),
        ("Thumbs.db", IGNORED),
        ("desktop.ini", IGNORED),
        ("README", IGNORED),
        ("README.md", IGNORED),
        ("LICENSE", IGNORED),
        ("a.xml", IGNORED),
        ("film.mp4", OTHER),
        ("a", OTHER),
    ],
)
def test_what_begins_as_nothing_known_is_what_its_name_says(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"?")
    assert kind_of(tmp_path / name) == kind


def test_a_raw_photograph_is_not_taken_for_the_tiff_that_it_begins_as(tmp_path: Path) -> None:
    RED.save(tmp_path / "a.nef", "TIFF")
    assert kind_of(tmp_path / "a.nef") == "unsupported NEF images"


def test_archives_are_known_by_their_content(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w") as tar:
        tar.add(__file__)
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        archive.write(__file__)
    with (tmp_path / "c").open("wb") as file:
        np.save(file, np.zeros(3))
    assert [kind_of(path) for path in sorted(tmp_path.iterdir())] == [ARCHIVES] * 3


@pytest.mark.parametrize("ending", SUFFIXES)
def test_a_file_called_as_an_image_is_not_opened(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("it was opened"))
    assert kind_of(tmp_path / f"a{ending.upper()}") == IMAGES


def test_what_is_no_ordinary_file_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    special = "pipes, sockets or devices"
    assert {path.name: kind_of(path) for path in tmp_path.iterdir()} == {
        "pipe": special,
        "device": special,
        "link": "broken links",
        "loop": "broken links",
    }


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a").write_bytes(b"?")
    monkeypatch.setattr(Path, "open", refuse)
    assert kind_of(tmp_path / "a") == "files that cannot be opened (permission denied)"
