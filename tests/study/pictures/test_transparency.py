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


def icon(path: Path, alpha: tuple[int, int], *, bits: int = 32, mask: bytes = b"\xff\xff\0\0" * 32) -> None:
    """An icon with a black bitmap of 32 bits; its directory names `bits`, and `alpha` is that of each half."""
    pixels = b"".join(bytes([0, 0, 0, value]) * 16 for value in alpha) * 32
    bitmap = struct.pack("<IiiHHIIiiII", 40, 32, 64, 1, 32, 0, 0, 0, 0, 0, 0) + pixels + mask
    path.write_bytes(struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, bits, len(bitmap), 22) + bitmap)


def bitmap(path: Path, alpha: int, header: int = 108) -> None:
    """A black BMP file of 32 bits; in a header of 108 bytes it declares alpha, in one of 40 the byte is reserved."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52) if header == 108 else b""
    pixels = bytes([0, 0, 0, alpha]) * 32 * 32
    info = struct.pack("<IiiHHIIiiII", header, 32, 32, 1, 32, 3 if masks else 0, len(pixels), 0, 0, 0, 0) + masks
    path.write_bytes(struct.pack("<2sIHHI", b"BM", 14 + header + len(pixels), 0, 0, 14 + header) + info + pixels)


BLACK = (0, 0, 0)
WAYS: dict[str, Callable[[Path], object]] = {
    "rgba.png": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path),
    "hidden colour.png": lambda path: half("RGBA", (200, 0, 0, 0), (*BLACK, 255)).save(path),
    "rgba.webp": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path, lossless=True),
    "rgba.avif": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path, quality=100, subsampling="4:4:4"),
    "rgba.jp2": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path),
    "rgba.ico": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path),
    "p.ico": lambda path: indexed().save(path, transparency=0),
    "bitmap.ico": lambda path: half("RGBA", (*BLACK, 0), (*BLACK, 255)).save(path, bitmap_format="bmp"),
    "by its mask.ico": lambda path: icon(path, (0, 0)),
    "by its alpha.ico": lambda path: icon(path, (0, 255), mask=bytes(128)),
    "of unknown bits.ico": lambda path: icon(path, (0, 255), bits=0, mask=bytes(128)),
    "of wrong bits.ico": lambda path: icon(path, (0, 255), bits=24, mask=bytes(128)),
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


@pytest.mark.parametrize("name", ["no mask.ico", "alpha.bmp", "reserved.bmp"])
@pytest.mark.parametrize("alpha", [0, 255])
def test_a_bitmap_without_any_alpha_is_opaque(name: str, alpha: int, tmp_path: Path) -> None:
    write: dict[str, Callable[[Path], None]] = {
        "no mask.ico": lambda path: icon(path, (alpha, alpha), mask=b""),
        "alpha.bmp": lambda path: bitmap(path, alpha),
        "reserved.bmp": lambda path: bitmap(path, alpha, header=40),
    }
    write[name](tmp_path / name)
    assert not read_image(tmp_path / name).any()


def test_an_icon_whose_mask_is_transparent_everywhere_is_white(tmp_path: Path) -> None:
    icon(tmp_path / "a.ico", (0, 0), mask=b"\xff" * 128)
    assert (read_image(tmp_path / "a.ico") == 255).all()


@pytest.mark.parametrize("kind", [0, 2])
def test_of_16_bits_only_the_whole_colour_is_transparent(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "almost.png"
    of_two_colours(path, 16, kind, (0x1234, 0x1235))
    pixels = read_image(path)
    assert (pixels[:, :, :16] == 255).all()
    assert (pixels[:, :, 16:] == 0x12).all()
