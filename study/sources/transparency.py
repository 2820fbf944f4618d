"""Compositing: images of any mode become RGB, with transparent pixels on a background."""

import numpy as np
from PIL import Image, ImageFile

from study.config import BACKGROUND


def to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """Composites the first frame of `image`, which is not loaded yet, on `BACKGROUND`; opaque pixels stay as they are.

    Raises:
        ValueError: for pixels whose range is not known.
    """
    tile = image.tile[0] if image.tile else None  # loading empties it
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    key = image.info.get("transparency")
    if key is not None and image.mode in ("1", "L", "RGB") and image.format == "PNG":
        rgba = _keyed(image.convert("RGB"), _key_colour(key, str(tile.args) if tile else ""))
    elif image.mode.startswith("I;16"):
        # Pillow clips these to 0–255 instead of scaling them.
        rgba = _keyed_grey(np.asarray(image), key)
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
    return Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB")


def _unmultiplied(image: Image.Image) -> Image.Image:
    """The image with colours that are not multiplied by alpha."""
    return image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, image.mode))


def _key_colour(key: int | tuple[int, int, int], raw: str) -> np.ndarray:
    """The transparent colour of a PNG in 8 bits; the file has it in the depth of its pixels, `raw`."""
    values = np.broadcast_to(np.asarray(key), 3)
    if raw == "1":
        return np.where(values, 255, 0)
    if raw.endswith(";16B"):
        return values >> 8
    return values * {"L;2": 85, "L;4": 17}.get(raw, 1)


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
