"""Images of every mode as RGB; what is transparent shows the ground."""

import numpy as np
from PIL import Image, ImageFile

from study.config import BACKGROUND


def on_ground(image: ImageFile.ImageFile) -> Image.Image:
    """The first frame of `image`, which is not loaded yet, as RGB on `BACKGROUND`; opaque pixels stay as they are.

    Raises:
        ValueError: for pixels whose range is not known.
    """
    tile = image.tile[0] if image.tile else None  # loading empties it
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    key = image.info.get("transparency")
    if key is not None and image.mode in ("1", "L", "RGB") and image.format == "PNG":
        rgba = _without(image.convert("RGB"), _key_of(key, str(tile.args) if tile else ""))
    elif image.mode.startswith("I;16"):
        # Pillow clips these to 0–255 instead of scaling them.
        rgba = _without_grey(np.asarray(image), key)
    elif image.has_transparency_data:
        rgba = _unmultiplied(image).convert("RGBA")
    else:
        rgba = image.convert("RGB")
    if image.format == "GIF" and tile and tile.extents:
        # Beyond an animation's first frame there is nothing.
        whole = Image.new("RGBA", rgba.size)
        whole.paste(rgba.crop(tile.extents), tile.extents[:2])
        rgba = whole
    if rgba.mode == "RGB":
        return rgba
    return Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB")


def _unmultiplied(image: Image.Image) -> Image.Image:
    return image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, image.mode))


def _key_of(key: int | tuple[int, int, int], raw: str) -> np.ndarray:
    """The transparent colour of a PNG in 8 bits; the file has it in the depth of its pixels, `raw`."""
    values = np.broadcast_to(np.asarray(key), 3)
    if raw == "1":
        return np.where(values, 255, 0)
    if raw.endswith(";16B"):
        return values >> 8
    return values * {"L;2": 85, "L;4": 17}.get(raw, 1)


def _without(image: Image.Image, key: np.ndarray) -> Image.Image:
    pixels = np.asarray(image)
    alpha = np.where((pixels == key).all(axis=2), 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels, alpha]))


def _without_grey(pixels: np.ndarray, key: int | None) -> Image.Image:
    grey = (pixels // 257).astype(np.uint8)
    alpha = np.where(pixels == key, 0, 255).astype(np.uint8) if key is not None else np.full_like(grey, 255)
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]))
