"""How a map is drawn, and what is written over one in which there is nothing to see."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from analysis.drawing import style
from analysis.drawing.wording import minus_signs

FAINT = 20
"""A map, or a filter's kernel, is too faint to see if no value is over 1/`FAINT` of the scale's end."""


def is_constant(array: np.ndarray, limits: style.Limits) -> bool:
    """Whether a map varies by at most a millionth of the colour limits' span, as float32's rounding does."""
    return bool(np.ptp(array) <= 1e-6 * (limits[1] - limits[0]))


def flat_label(array: np.ndarray, limits: style.Limits) -> str:
    """The label of a constant or non-finite map; empty for any other.

    ``all 0`` is exact; ``≈ 0`` is the map of a collapsed filter's tiny weights.
    """
    if not np.isfinite(array).all():
        return "not\nfinite"
    if not is_constant(array, limits):
        return ""
    if not array.any():
        return "all 0"
    value = float(array.mean())
    return "≈ 0" if abs(value) <= 1e-6 * (limits[1] - limits[0]) else f"constant\n{minus_signs(f'{value:.2g}')}"


def faint_label(array: np.ndarray, limits: style.Limits) -> str:
    """The largest absolute value of a map that is too faint to see on this scale; empty for a visible map.

    Without this label, a faint map and a dead one look the same.
    """
    largest = float(np.abs(array).max())
    if not 0 < largest < limits[1] / FAINT:
        return ""
    power = 10.0 ** math.floor(math.log10(largest))
    bound = math.ceil(largest / power) * power  # rounded up, so that it is an upper bound
    number = f"{bound:.1g}" if bound >= 1e-3 else f"{bound:.0e}"
    return f"{'±' if limits[0] < 0 else '≤'}{minus_signs(number)}"


def drawn(array: np.ndarray, limits: style.Limits, cmap: str) -> tuple[np.ndarray, str, str]:
    """The values of a map (H, W) to draw, its label and the label's colour.

    A constant map is drawn as its mean, and labelled; one too faint to see is labelled with a bound of its values. NaN
    and infinities are masked, and labelled.
    """
    finite = bool(np.isfinite(array).all())
    flat = flat_label(array, limits)
    shown = np.full(array.shape, array.mean()) if finite and flat else np.ma.masked_invalid(array)
    ink = style.ink_on(cmap, Normalize(*limits)(float(array.mean()))) if finite else style.INK
    return shown, flat or faint_label(array, limits), ink


def panel(ax: Axes, array: np.ndarray, limits: style.Limits, cmap: str) -> None:
    """Draws one map (H, W) without ticks in Axes of its own, see `drawn`."""
    shown, label, ink = drawn(array, limits, cmap)
    ax.imshow(shown, cmap=style.colour_map(cmap), vmin=limits[0], vmax=limits[1], interpolation="nearest")
    style.frame(ax)
    ax.text(0.5, 0.5, label, transform=ax.transAxes, ha="center", va="center", fontsize=8, color=ink)
