"""Compositing: images of any mode become RGB, with transparent pixels on a background."""

from typing import IO

import numpy as np
from PIL import IcoImagePlugin, Image, ImageChops

from study.config import BACKGROUND

BITMAP_HEADER, BITS = 40, slice(14, 16)
"""The length of the header of a bitmap within an icon, and where it has the number of bits of a pixel."""
SEEN_THROUGH = "transparent"
"""Key in the `info` of a composited image: whether any pixel was transparent."""
OF_16_BITS = ";16B"
"""How Pillow calls samples of 16 bits in a PNG."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Composites the first frame of `image`, which is not loaded yet, on `BACKGROUND`; opaque pixels stay as they are.

    Raises:
        ValueError: for pixels whose range is not known.
    """
    if isinstance(image, IcoImagePlugin.IcoImageFile):
        return to_rgb(_of_icon(image))
    tile = next(iter(getattr(image, "tile", ())), None)  # loading empties it
    file = getattr(image, "fp", None)
    low = _low_bytes(file) if file and tile and str(tile.args) == f"RGB{OF_16_BITS}" else None
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    key = image.info.get("transparency")
    if key is not None and image.mode in ("1", "L", "RGB") and image.format == "PNG":
        rgba = _keyed(image.convert("RGB"), _key_colour(key, str(tile.args) if tile else ""))
        if low:
            # Colours that differ in their low bytes alone are not transparent.
            opaque = _keyed(low, np.asarray(key) & 255).getchannel("A")
            rgba.putalpha(ImageChops.lighter(rgba.getchannel("A"), opaque))
    elif image.mode.startswith("I;16"):
        # Pillow clips these to 0–255 instead of scaling them.
        rgba = _keyed_grey(np.asarray(image), key)
    elif image.format == "BMP" and _is_invisible(image):
        # No alpha was written, as browsers assume too.
        rgba = image.convert("RGB")
    elif image.has_transparency_data:
        rgba = _unmultiplied(image).convert("RGBA")
    else:
        rgba = image.convert("RGB")
    if image.format == "GIF" and tile and tile.extents:
        # Beyond an animation's first frame there is nothing.
        canvas = Image.new("RGBA", rgba.size)
        canvas.paste(rgba.crop(tile.extents), tile.extents[:2])
        rgba = canvas
    if rgba.mode == "RGB":
        return rgba
    composited = Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB")
    composited.info[SEEN_THROUGH] = rgba.getchannel("A").getextrema() != (255, 255)
    return composited


def _of_icon(image: IcoImagePlugin.IcoImageFile) -> Image.Image:
    """The largest picture of an icon, as browsers show it: where its alpha is 0 everywhere, its mask decides."""
    icon = image.ico
    entry = icon.entry[0]
    icon.buf.seek(entry.offset)
    bits = int.from_bytes(icon.buf.read(BITS.stop)[BITS], "little")
    # Pillow relies on the number of bits in the icon's directory, which may be 0 or wrong.
    icon.entry[0] = entry._replace(bpp=bits)
    picture = icon.frame(0)
    if picture.format == "PNG" or bits != 32 or not _is_invisible(picture):
        return picture
    width, height = picture.size
    if entry.size < BITMAP_HEADER + 4 * width * height + (width + 31) // 32 * 4 * height:
        return picture.convert("RGB")  # it has no mask
    icon.entry[0] = entry._replace(bpp=24)  # of fewer bits Pillow reads the mask
    return icon.frame(0)


def _is_invisible(image: Image.Image) -> bool:
    """Whether the image has alpha, which is 0 everywhere."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def _unmultiplied(image: Image.Image) -> Image.Image:
    """The image with colours that are not multiplied by alpha."""
    return image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, image.mode))


def _key_colour(key: int | tuple[int, int, int], raw: str) -> np.ndarray:
    """The transparent colour of a PNG in 8 bits; the file has it in the depth of its pixels, `raw`."""
    values = np.broadcast_to(np.asarray(key), 3)
    if raw == "1":
        return np.where(values, 255, 0)
    if raw.endswith(OF_16_BITS):
        return values >> 8
    return values * {"L;2": 85, "L;4": 17}.get(raw, 1)


def _low_bytes(file: IO[bytes]) -> Image.Image:
    """The low bytes of a PNG of 16 bits in three channels, of which Pillow reads the high ones; the file stays."""
    place = file.tell()
    file.seek(0)
    low = Image.open(file, formats=["PNG"])
    # In the other order of bytes, the low one is taken for the high one.
    low.tile = [low.tile[0]._replace(args="RGB;16L")]
    low.load()
    file.seek(place)
    return low


def _keyed(image: Image.Image, key: np.ndarray) -> Image.Image:
    """An RGB image as RGBA, with the colour `key` transparent."""
    pixels = np.asarray(image)
    alpha = np.where((pixels == key).all(axis=2), 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels, alpha]))


def _keyed_grey(pixels: np.ndarray, key: int | None) -> Image.Image:
    """Grey values of 16 bits as RGBA, with the value `key` transparent."""
    grey = (pixels // 257).astype(np.uint8)
    alpha = np.where(pixels == key, 0, 255).astype(np.uint8) if key is not None else np.full_like(grey, 255)
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]))
