"""Every way in which a file can be transparent: what shows through is white, and opaque pixels stay."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.sources.image_folder import read_image


def half(mode: str, see_through: tuple[int, ...], opaque: tuple[int, ...]) -> Image.Image:
    """The left half of one colour, the right half of another."""
    image = Image.new(mode, (32, 32), see_through)
    image.paste(Image.new(mode, (16, 32), opaque), (16, 0))
    return image


def indexed() -> Image.Image:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.paste(1, (16, 0, 32, 32))
    return image


def of_two_colours(path: Path, depth: int, kind: int, values: tuple[int, int]) -> None:
    """A PNG whose left half has the sample values[0], which is its transparent colour, and whose right values[1]."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = 3 if kind == 2 else 1
    samples = np.repeat(np.array(values), 16 * channels)
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, depth, kind, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">H", values[0]) * channels)
        + chunk(b"IDAT", zlib.compress(row * 32))
        + chunk(b"IEND", b"")
    )


BLACK = (0, 0, 0)
WAYS: dict[str, Callable[[Path], object]] = {
    "rgba.png": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path),
    "hidden colour.png": lambda path: half("RGBA", (200, 0, 0, 0), (*BLACK, 255)).save(path),
    "rgba.webp": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path, lossless=True),
    "rgba.avif": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path, quality=100, subsampling="4:4:4"),
    "rgba.jp2": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path),
    "rgba.ico": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path),
    "rgba.tiff": lambda path: half("RGBA", (90, 0, 0, 0), (*BLACK, 255)).save(path),
    "associated.tiff": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path, tiffinfo={338: 1}),
    "la.png": lambda path: half("LA", (0, 0), (0, 255)).save(path),
    "la.tiff": lambda path: half("LA", (0, 0), (0, 255)).save(path),
    "p.png": lambda path: indexed().save(path, transparency=0),
    "p bytes.png": lambda path: indexed().save(path, transparency=b"\x00\xff"),
    "p.gif": lambda path: indexed().save(path, transparency=0),
    "l.gif": lambda path: half("L", (9,), (0,)).save(path, transparency=9),
    "moving.gif": lambda path: indexed().save(
        path, transparency=0, save_all=True, append_images=[Image.new("RGB", (32, 32), "red")]
    ),
    "1.png": lambda path: of_two_colours(path, 1, 0, (1, 0)),
    "l2.png": lambda path: of_two_colours(path, 2, 0, (2, 0)),
    "l4.png": lambda path: of_two_colours(path, 4, 0, (7, 0)),
    "l8.png": lambda path: of_two_colours(path, 8, 0, (7, 0)),
    "l16.png": lambda path: of_two_colours(path, 16, 0, (777, 0)),
    "rgb8.png": lambda path: of_two_colours(path, 8, 2, (7, 0)),
    "rgb16.png": lambda path: of_two_colours(path, 16, 2, (7777, 0)),
}


@pytest.mark.parametrize("name", WAYS)
def test_what_is_transparent_is_white_and_what_is_not_stays(name: str, tmp_path: Path) -> None:
    WAYS[name](tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert (pixels[:, :, :16] == 255).all()
    assert (pixels[:, :, 16:] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_half_transparent_is_mixed_with_white(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (64, 64), (100, 100, 100, 51) if mode == "RGBA" else (100, 51)).save(tmp_path / "a.png")
    assert np.unique(read_image(tmp_path / "a.png")).tolist() == [224]


def test_a_transparent_image_is_turned_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(tmp_path / "a.png", exif=exif)
    pixels = read_image(tmp_path / "a.png")
    assert (pixels[:, :16] == 255).all()
    assert (pixels[:, 16:] == 0).all()


def test_beyond_the_first_frame_of_an_animation_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    indexed().save(path)
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 64, 32)
    path.write_bytes(content)
    assert (read_image(path)[:, :, 17:] == 255).all()
