"""Decodes an image file, upright and composited on white, and resizes it as for training."""

import io
import stat
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, features

from study.pictures.transparency import SEEN_THROUGH, to_rgb

MAX_PIXELS = 50_000_000
"""Maximum number of pixels of an image, checked before decoding: a small file can decompress to fill the memory."""
MAX_BYTES = 512 * 2**20
"""Maximum size of an image file, checked before opening; `MAX_PIXELS` of 16 bits in three channels are smaller."""
_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Formats that Pillow may have been built without."""
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "ICO": (".ico",),
}
FORMATS = tuple(name for name in ENDINGS if features.check(_OPTIONAL.get(name, "pil")))
"""What is read, whatever a file's name ends in: others of Pillow's formats start programs, as PostScript does."""
# Pillow's own limit is above ours: its warning becomes the reason why a file cannot be read.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, eq=False)
class Photo:
    """The image in a file, as a network takes it."""

    pixels: np.ndarray
    """uint8, (3, side, side)."""
    size: tuple[int, int]
    """Width and height before it was resized."""
    has_more: bool
    """Whether the file has pages or frames beyond the first, which are not read."""
    is_transparent: bool
    """Whether any pixel of it is transparent."""


def read_photo(source: Path | bytes, side: int) -> Photo:
    """The image in a file, or in its bytes, stretched to a square of `side` pixels.

    Raises:
        Exception: see `read_upright`.
    """
    with _opened(source) as image:
        photo = upright(image)
        return Photo(resized(photo, side), photo.size, _has_more(image), photo.info.get(SEEN_THROUGH, False))


def read_upright(source: Path | bytes) -> Image.Image:
    """The image in a file, or in its bytes, turned upright: RGB; of several pages or frames, the first.

    Raises:
        Exception: whatever Pillow's decoders meet in a damaged file (SyntaxError, struct.error, EOFError, …), an
            OSError, or a ValueError for what is no file or too large; `why_unreadable` says it in words.
    """
    with _opened(source) as image:
        return upright(image)


def _has_more(image: Image.Image) -> bool:
    """Whether an image that was read has further pages or frames."""
    # Whatever Pillow's decoders raise.
    with suppress(Exception):
        # Beside a photo, MPO keeps a preview or a map of depths.
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    return False


def _opened(source: Path | bytes) -> Image.Image:
    if isinstance(source, Path):
        require_file(source)
    elif len(source) > MAX_BYTES:
        raise ValueError(f"{len(source):,} bytes are more than {MAX_BYTES:,}")
    if not (source.stat().st_size if isinstance(source, Path) else source):
        raise ValueError("it is empty")
    return Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS)


def upright(image: Image.Image) -> Image.Image:
    """The image, not loaded yet, as RGB and turned as its EXIF orientation says.

    Raises:
        ValueError: for more than `MAX_PIXELS` pixels; see also `read_upright`.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} × {image.height} pixels are more than {MAX_PIXELS:,}")
    rgb = to_rgb(image)
    rgb.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return ImageOps.exif_transpose(rgb)


def resized(image: Image.Image, side: int) -> np.ndarray:
    """The pixels of an RGB image, stretched to a square of `side` pixels: uint8, (3, side, side)."""
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.array(image).transpose(2, 0, 1)


def require_file(path: Path) -> None:
    """Checks that `path` is a regular file of at most `MAX_BYTES`.

    Raises:
        OSError: where it cannot be looked at.
        ValueError: where it is something else.
    """
    # Before it is opened: a pipe would wait for a writer, and a device may never end.
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is not a regular file")
    if state.st_size > MAX_BYTES:
        raise ValueError(f"{state.st_size:,} bytes are more than {MAX_BYTES:,}")


def why_unreadable(error: Exception) -> str:
    """Why an image cannot be read, in words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "its format is not known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
