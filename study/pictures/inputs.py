"""What people send to a model, as images: arrays, files and their bytes, base64, and tables or lists of these.

The type of an array says its scale: whole numbers are 0–255, floats 0–1. What can be read in two ways is refused.
"""

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from study.pictures.decoding import read_upright, upright, why_unreadable

COLUMN = "image"
"""Name of the images' column in a table that has several."""
CHANNELS = (1, 3, 4)
"""Lengths of an array's last axis: grey, RGB, and RGB with transparency."""
LONGEST_QUOTED = 60
"""Maximum number of characters of a text that a message quotes."""


def as_images(data: Any, files: bool = True) -> list[Image.Image]:
    """The images in `data`, upright and composited on white: RGB, of any size.

    Args:
        data: an image (H×W×3 array, PIL image, path, bytes of a file, or base64), several (N×H×W×3 or N×3×H×W array,
            list, Series), or a table or mapping with a column of them. The last axis may also have 1 or 4 channels.
        files: whether a text may be the path of a file; otherwise it is base64.

    Raises:
        ValueError: for what is no image, cannot be read, or can be read in two ways; its text is a sentence.
    """
    data = _column(data)
    if isinstance(data, str):
        return [_of_text(data, files)]
    if isinstance(data, Path):
        return [_read(str(data), lambda: read_upright(data))]
    if isinstance(data, bytes | bytearray | memoryview):
        return [_read(f"A file of {len(data):,} bytes", lambda: read_upright(bytes(data)))]
    if isinstance(data, Image.Image):
        return [_read("The PIL image", lambda: upright(data))]
    if isinstance(data, list | tuple | pd.Series):
        items = list(data)
        array = _of_nested(items)
        return [_single(item, files) for item in items] if array is None else as_images(array, files)
    array = np.asarray(data)
    if array.ndim == 0:
        if isinstance(array.item(), str | bytes):
            return as_images(array.item(), files)
        raise ValueError(f"{_quoted(repr(data))} is no image: send an array, the bytes of a file, or base64.")
    return as_images(array.ravel().tolist(), files) if array.dtype.kind in "OUS" else _of_array(array)


def _column(data: Any) -> Any:
    """The images of a table or mapping; anything else as it is."""
    if not isinstance(data, pd.DataFrame | Mapping):
        return data
    names = list(data)
    if COLUMN in names:
        return data[COLUMN]
    if len(names) == 1:
        return data[names[0]]
    raise ValueError(
        f"Of the {len(names)} columns {_quoted(', '.join(map(str, names)))}, none is called {COLUMN!r}: call that of "
        "the images so, or send no other."
    )


def _of_nested(items: list[Any]) -> np.ndarray | None:
    """The array that nested lists of numbers are, as JSON has it; None for a list of images."""
    if not items or not all(isinstance(item, list | int | float) for item in items):
        return None
    try:
        return np.asarray(items)
    except ValueError:  # of several sizes
        return None


def _single(item: Any, files: bool) -> Image.Image:
    images = as_images(item, files)
    if len(images) != 1:
        raise ValueError(f"An element of the list, or a row of the table, holds {len(images)} images instead of one.")
    return images[0]


def _of_text(text: str, files: bool) -> Image.Image:
    if files and os.path.isfile(text):  # noqa: PTH113  # `Path.is_file` raises for a text as long as an image's
        return _read(text, lambda: read_upright(Path(text)))
    try:
        content = base64.b64decode("".join(re.sub("^data:[^,]*;base64,", "", text).split()), validate=True)
    except (binascii.Error, ValueError):
        kinds = "neither the path of a file nor" if files else "not"
        raise ValueError(f"{_quoted(repr(text))} is {kinds} an image in base64.") from None
    return _read(_quoted(repr(text)), lambda: read_upright(content))


def _read(name: str, read: Callable[[], Image.Image]) -> Image.Image:
    try:
        return read()
    # Whatever Pillow's decoders raise.
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an image ({why_unreadable(error)}).") from None


def _of_array(array: np.ndarray) -> list[Image.Image]:
    pixels = _as_bytes(array)
    if array.ndim == 4 and array.shape[-1] not in CHANNELS and array.shape[1] == 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.ndim not in (3, 4) or pixels.shape[-1] not in CHANNELS or 0 in pixels.shape[-3:]:
        raise ValueError(
            f"An array of shape {array.shape} is not an image for certain: send H×W×3 (of a grey image H×W×1, of one "
            "with transparency H×W×4), or several as N×H×W×3 or N×3×H×W."
        )
    images = pixels if pixels.ndim == 4 else pixels[None]
    return [upright(Image.fromarray(np.squeeze(image, 2) if image.shape[2] == 1 else image)) for image in images]


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """The pixel values from 0 to 255."""
    if array.dtype == np.uint8 or array.size == 0:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"An array of {array.dtype} is no image: send uint8 (0–255) or floats (0–1).")
    low, high = array.min(), array.max()
    extent = f"these go from {low:.4g} to {high:.4g}"
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # nor NaN
            raise ValueError(f"Floats are 0–1, and {extent}: send values from 0 to 255 as uint8, or divide by 255.")
        return np.rint(array * 255).astype(np.uint8)
    if low < 0 or high > 255:
        raise ValueError(f"Whole numbers are 0–255, and {extent}: scale them to 0–255, or to floats from 0 to 1.")
    if high == 1:
        raise ValueError("Whole numbers of 0 and 1 alone may be on either scale: send floats (0.0–1.0), or uint8.")
    return array.astype(np.uint8)


def _quoted(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTED else f"{text[:LONGEST_QUOTED]}…"
