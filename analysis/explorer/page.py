"""The explorer: one HTML page that runs the convolutions in the browser, for any filter, layer and epoch.

The page holds the weights of every epoch instead of pictures of every map: those of the first convolution unchanged,
those of the second quantised so finely that no pixel's colour is off by more than 2 of 255. The template is
explorer.html.
"""

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np

from analysis.drawing import style
from analysis.drawing.style import scale
from analysis.drawing.templates import templates
from analysis.drawing.wording import all_quoted, quoted
from analysis.explorer.quantise import NEGLIGIBLE, patches, quantise

MOST_BYTES = 4_000_000
"""Maximum size of the page in bytes: MLflow's viewer and a phone still open it without delay."""
TOLERANCE = 0.25
"""Maximum error of a drawn value, in steps of a colour map of 256 colours. Near the border between two colours the page
draws their mean, which is within 2/255 of either."""
MAPS = {"conv1": ("conv1", "relu1", "pool1"), "conv2": ("conv2", "relu2", "pool2")}
"""The layers whose maps are shown, by convolution."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image whose maps the page shows."""

    pixels: np.ndarray
    """uint8, (side, side, 3)."""
    name: str
    """The caption: the image's class, or its source."""
    label: int | None
    """The index of its class; None if it is unknown."""


@dataclass(frozen=True, eq=False)
class Shares:
    """The exact shares of the second convolution's filters in the margin of a class over its rival."""

    pairs: Sequence[tuple[int, int]]
    """The class and its rival for each picture, the same at all epochs."""
    margins: np.ndarray
    """The margins (E, N)."""
    of_filters: np.ndarray
    """(E, N, filters): their sum is the margin minus the background's mean margin."""
    background: int
    """Number of background images."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A network's weights at E epochs, and its outputs for N pictures."""

    epochs: Sequence[int]
    accuracy: Sequence[float]
    """Test accuracy (0..1) of every epoch; NaN where it was not measured."""
    weights: dict[str, np.ndarray]
    """`conv1.weight`, `conv1.bias`, `conv2.weight` and `conv2.bias` of every epoch, (E, …)."""
    geometry: dict[str, Any]
    """`stride`, `padding` and `dilation` of the convolutions, `pool`, the side of the pooling windows, and `pooling`,
    ``max`` or ``average``."""
    ranges: dict[str, np.ndarray]
    """The smallest and largest value of every map in `MAPS`, over all pictures: (E, filters, 2)."""
    inputs: np.ndarray
    """The inputs of the second convolution: (E, N, C, H, W)."""
    probabilities: np.ndarray
    """The class probabilities, (E, N, classes)."""
    shares: Shares | None = None
    """Without background images there are none."""


def value_ranges(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The smallest and largest value of every filter's maps (N, filters, H, W), by name: (filters, 2)."""
    ends = {name: (values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))) for name, values in maps.items()}
    return {name: np.stack(pair, axis=1) for name, pair in ends.items()}


def caption(trace: Trace) -> str:
    """One sentence: how many filters are silent on all pictures at the last epoch."""
    layers = {layer: trace.ranges[maps[1]][-1, :, 1] for layer, maps in MAPS.items()}
    silent = " and ".join(f"{(most <= 0).sum()} of {len(most)} filters of {layer}" for layer, most in layers.items())
    images = trace.inputs.shape[1]
    shown = "the one image" if images == 1 else f"all of the {images} images"
    return f"At epoch {trace.epochs[-1]}, {silent} are silent on {shown} shown."


def note(trace: Trace) -> str:
    """What the page shows, in one sentence."""
    filters = sum(len(trace.ranges[maps[0]][-1]) for maps in MAPS.values())
    return (
        f"A page of its own shows the kernel of any of the {filters} filters, and its feature map, ReLU and "
        f"pooling on {trace.inputs.shape[1]} images side by side, from epoch {trace.epochs[0]} to {trace.epochs[-1]}; "
        f"where all epochs would make it larger than {MOST_BYTES / 1e6:.0f} MB, it has only every second, third, …."
    )


def page(
    trace: Trace,
    pictures: Sequence[Picture],
    classes: Sequence[str],
    *,
    title: str,
    start: tuple[str, int],
    most_bytes: int = MOST_BYTES,
) -> str:
    """A self-contained HTML page; all text is escaped.

    If all epochs together exceed `most_bytes`, only every second, third, … epoch is kept, counted back from the last.

    Args:
        trace: the network.
        pictures: the N images.
        classes: the names of the classes.
        title: the heading.
        start: the layer and the filter to show first.
        most_bytes: maximum size of the page.

    Raises:
        ValueError: if the page is too large even with a single epoch.
    """
    limits = _limits(trace)
    fixed = {
        "title": title,
        "classes": list(classes),
        "quoted": all_quoted(classes),
        "start": start,
        "pictures": _labels(pictures, classes),
        "limits": limits,
    }
    pixels = np.stack([picture.pixels for picture in pictures])
    for every in range(1, len(trace.epochs) + 1):
        html = _render(_thinned(trace, every), pixels, fixed)
        if len(html.encode()) <= most_bytes:
            return html
    raise ValueError(f"One epoch's weights make the page larger than {most_bytes:,} bytes.")


def _thinned(trace: Trace, step: int) -> Trace:
    """Every `step`-th epoch, counted back from the last."""
    kept = slice((len(trace.epochs) - 1) % step, None, step)
    shares = trace.shares
    if shares:
        shares = replace(shares, margins=shares.margins[kept], of_filters=shares.of_filters[kept])
    return replace(
        trace,
        epochs=trace.epochs[kept],
        accuracy=trace.accuracy[kept],
        weights={name: values[kept] for name, values in trace.weights.items()},
        ranges={name: values[kept] for name, values in trace.ranges.items()},
        inputs=trace.inputs[kept],
        probabilities=trace.probabilities[kept],
        shares=shares,
    )


def _limits(trace: Trace) -> dict[str, list[style.Limits]]:
    """The colour limits of each filter in every map and kernel, over all epochs and pictures."""
    limits = {name: [scale(name, values)[0] for values in ends.swapaxes(0, 1)] for name, ends in trace.ranges.items()}
    for layer in MAPS:
        kernels = trace.weights[f"{layer}.weight"].swapaxes(0, 1)
        limits[f"{layer}.weight"] = [style.limits_around_zero(kernel) for kernel in kernels]
    return limits


def _labels(pictures: Sequence[Picture], classes: Sequence[str]) -> list[dict[str, Any]]:
    return [{"name": _quoting(picture, classes), "label": picture.label} for picture in pictures]


def _quoting(picture: Picture, classes: Sequence[str]) -> str:
    """The picture's name with the class at its end in quotation marks: a bare 0 would pass for the image's number."""
    if picture.label is None:
        return picture.name
    ending = f"({classes[picture.label]})"
    if not picture.name.endswith(ending):
        return picture.name
    return f"{picture.name.removesuffix(ending)}({quoted(classes[picture.label])})"


def _render(trace: Trace, pixels: np.ndarray, fixed: dict[str, Any]) -> str:
    levels, steps = _quantised(trace, fixed["limits"])
    arrays = {
        "pixels": pixels,
        "diverging": _colours(style.DIVERGING),
        "sequential": _colours(style.SEQUENTIAL),
        "conv1.weight": _floats(trace.weights["conv1.weight"]),
        "conv1.bias": _floats(trace.weights["conv1.bias"]),
        "conv2.levels": levels,
        "conv2.steps": steps,
        "conv2.bias": _floats(trace.weights["conv2.bias"]),
        "probabilities": trace.probabilities.astype("<f4"),
        **{f"{layer}.largest": _largest(trace, layer) for layer in MAPS},
        **{f"{maps[1]}.largest": trace.ranges[maps[1]][..., 1].astype("<f4") for maps in MAPS.values()},
    }
    if trace.shares:
        arrays |= {"margins": _floats(trace.shares.margins), "shares": _floats(trace.shares.of_filters)}
    meta = {
        **fixed,
        "pairs": trace.shares and list(trace.shares.pairs),
        "background": trace.shares and trace.shares.background,
        "epochs": list(trace.epochs),
        "accuracy": [None if np.isnan(value) else float(value) for value in trace.accuracy],
        "tolerance": TOLERANCE,
        "geometry": trace.geometry,
        "shapes": {name: [array.dtype.str[1:], *array.shape] for name, array in arrays.items()},
    }
    template = templates().get_template("explorer/explorer.html")
    return template.render(meta=meta, arrays=_packed(list(arrays.values())))


def _floats(values: np.ndarray) -> np.ndarray:
    """The values as little-endian float32, negligible ones as zero."""
    return np.where(np.abs(values) < NEGLIGIBLE, 0, values).astype("<f4")


def _largest(trace: Trace, layer: str) -> np.ndarray:
    """The largest absolute weight of each filter at every epoch, (E, filters)."""
    return np.abs(trace.weights[f"{layer}.weight"]).max(axis=(2, 3, 4)).astype("<f4")


def _quantised(trace: Trace, limits: dict[str, list[style.Limits]]) -> tuple[np.ndarray, np.ndarray]:
    """The zigzag-coded levels and the steps of the second convolution at every epoch."""
    allowed = {name: np.ptp(np.array(pairs), axis=1) * TOLERANCE / 256 for name, pairs in limits.items()}
    map_error = np.min([allowed[name] for name in MAPS["conv2"]], axis=0)
    geometry = {name: trace.geometry[name] for name in ("stride", "padding", "dilation")}
    quantised = [
        quantise(
            weights,
            patches(inputs, weights.shape[-1], **geometry),
            weight_error=allowed["conv2.weight"],
            map_error=map_error,
        )
        for weights, inputs in zip(trace.weights["conv2.weight"], trace.inputs, strict=True)
    ]
    levels, steps = (np.stack(parts) for parts in zip(*quantised, strict=True))
    # Zigzag coding: 0, -1, 1, -2, … become 0, 1, 2, 3, …. The high bytes of small numbers are then 0 and compress well.
    return ((levels << 1) ^ (levels >> 31)).astype("<u4"), steps.astype("<f4")


def _colours(name: str) -> np.ndarray:
    """The 256 colours of a colour map, and the mean of each pair of neighbours between them: uint8, (511, 3)."""
    cmap = matplotlib.colormaps[name]
    exact = cmap(np.arange(256))[:, :3] * 255
    table = np.empty((511, 3), np.uint8)
    table[::2] = cmap(np.arange(256), bytes=True)[:, :3]
    # matplotlib truncates where others round; 0.25 less is within 2 of the neighbours in either case.
    table[1::2] = np.round((exact[1:] + exact[:-1]) / 2 - 0.25)
    return table


def _packed(arrays: Sequence[np.ndarray]) -> str:
    """The arrays concatenated, each byte plane by byte plane, as gzip in base64."""
    planes = [np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8).T.tobytes() for array in arrays]
    return base64.b64encode(gzip.compress(b"".join(planes), mtime=0)).decode()
