"""A photo of another size than the training images, in the forms in which people send one."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

PIXELS = np.random.default_rng(5).integers(0, 256, (40, 56, 3), np.uint8)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def text(pixels: np.ndarray = PIXELS) -> str:
    """The file of an image in base64."""
    return base64.b64encode(png(pixels)).decode()


def as_trained(pixels: np.ndarray = PIXELS) -> torch.Tensor:
    """The image as the network takes it, (1, 3, 32, 32)."""
    resized = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None]


def path_of(folder: Path) -> Path:
    """The photo as a file in `folder`."""
    (folder / "photo.png").write_bytes(png())
    return folder / "photo.png"


FORMS: dict[str, Callable[[Path], Any]] = {
    "uint8, H×W×3": lambda folder: PIXELS,
    "floats, H×W×3": lambda folder: PIXELS / 255,
    "uint8, N×H×W×3": lambda folder: PIXELS[None],
    "float32, N×H×W×3": lambda folder: (PIXELS / 255).astype(np.float32)[None],
    "N×3×H×W": lambda folder: PIXELS.transpose(2, 0, 1)[None],
    "opaque, H×W×4": lambda folder: np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]),
    "torch's floats": lambda folder: torch.from_numpy(PIXELS / 255).permute(2, 0, 1)[None].float(),
    "nested lists": lambda folder: PIXELS.tolist(),
    "nested floats": lambda folder: [(PIXELS / 255).tolist()],
    "a path": path_of,
    "a path as text": lambda folder: str(path_of(folder)),
    "bytes": lambda folder: png(),
    "base64": lambda folder: text(),
    "base64 on several lines": lambda folder: base64.encodebytes(png()).decode(),
    "a data URL": lambda folder: f"data:image/png;base64,{text()}",
    "a PIL image": lambda folder: Image.fromarray(PIXELS),
    "an array of base64": lambda folder: np.array([text()]),
    "a table of paths": lambda folder: pd.DataFrame({"file": [str(path_of(folder))]}),
    "a table of bytes": lambda folder: pd.DataFrame({"image": [png()], "taken": ["today"]}),
    "a table of nested lists": lambda folder: pd.DataFrame({"image": [PIXELS.tolist()]}),
    "a Series": lambda folder: pd.Series([Image.fromarray(PIXELS)]),
    "a mapping": lambda folder: {"image": [text()]},
}
