"""The style of all figures: sizes, palettes, and how a map is drawn. Does not use pyplot."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.drawing.fonts import families

COLLAPSED = 1e-3
"""A filter whose largest weight is below this has collapsed; PyTorch's initial weights go up to 0.12 and 0.035."""

MOST = 99
"""Percentile of the weights at which the colours of kernels end; larger weights have the colour of the limit."""

COLOURS = ("red", "green", "blue")

P = ParamSpec("P")
F = TypeVar("F", bound=Figure | None)
Limits = tuple[float, float]
Scale = tuple[Limits, str]
"""Limits of the values, and the name of a colour map."""

DOTS_PER_INCH, PAGE_PIXELS = 150, 100
"""Pixels per inch of a figure: in its file, and as shown on the page, where 8 pt is 11 pixels high."""
WIDTH = 10.0
"""Width of a figure in inches."""
NARROW = 3.58
"""Width in inches of a figure on a narrow screen: of 390 pixels, 358 are inside the margins."""
_page_width: ContextVar[float] = ContextVar("page width", default=WIDTH)
INK, QUIET, PAPER = "#222222", "#8a8a8a", "#ffffff"
MODEL_COLOURS, OTHER_COLOUR = {"cnn": "#0072b2", "ffnn": "#d55e00"}, "#009e73"
"""Colours of Okabe and Ito's palette (2008)."""
CLASS_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#5fbfc4",
)  # fmt: skip
"""Petroff's ten colours, arXiv 2107.02270; the last one darkened, to be visible on white."""
DIVERGING = "RdBu_r"
"""Colour map of weights and pre-activations: white is zero."""
SEQUENTIAL = "viridis"
"""Colour map of values that are never negative: ReLU and pooled maps, accuracy."""

SHARES = "Blues"
"""Colour map of shares of a whole, with numbers written over them."""
_RC: Any = {
    # A class name may contain dollar signs.
    "text.parse_math": False,
    # In SVG files too each map keeps its own pixels, instead of one picture of all of them at 72 dpi.
    "image.composite_image": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": PAPER,
    "figure.titlesize": 11,
    "savefig.facecolor": "auto",
    "svg.hashsalt": "study",
}
# Figures start from matplotlib's defaults, so that a user's matplotlibrc (`image.origin: lower`) has no effect.
_SETTINGS: Any = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"} | _RC


@contextmanager
def style() -> Iterator[None]:
    """Context manager: applies the project's matplotlib settings, and restores the caller's afterwards."""
    with matplotlib.rc_context(_SETTINGS | {"font.family": families()}), warnings.catch_warnings():
        # Names with characters that no installed font has are numbered instead, see `names.readable_names`.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def page_width() -> float:
    """The width in inches that a figure may take: `WIDTH`, or `NARROW` while one is drawn for a narrow screen."""
    return _page_width.get()


@contextmanager
def narrow_page() -> Iterator[None]:
    """Context manager: figures are drawn for a narrow screen."""
    token = _page_width.set(NARROW)
    try:
        yield
    finally:
        _page_width.reset(token)


def styled(draw: Callable[P, F]) -> Callable[P, F]:
    """Decorator: runs a drawing function within `style`, and lets its figure be drawn again."""

    @wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> F:
        with style():
            figure = draw(*args, **kwargs)
        if isinstance(figure, _StyledFigure):
            figure.redraw = partial(draw, *args, **kwargs)
        return figure

    return within


class _StyledFigure(Figure):
    """A figure that applies the style when it is drawn: matplotlib creates ticks only then, outside `styled`."""

    redraw: Callable[[], Figure | None] | None = None
    """Draws the figure again, for the page's width at that time."""

    def draw(self, renderer: RendererBase) -> None:
        with style():
            super().draw(renderer)


def figure(width: float, height: float, *, compress: bool = False) -> Figure:
    """An empty figure of `width` × `height` inches; `compress` closes the gaps that square panels leave."""
    pad = 0.02 if compress else 0.05
    with style():
        engine = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, compress=compress)
        return _StyledFigure(figsize=(width, height), layout=engine)


def fix_layout(figure: Figure) -> None:
    """Computes the figure's layout for the resolution of its file, and keeps it.

    With a layout engine, even one without effect, `savefig` draws the figure twice.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    figure.set_dpi(DOTS_PER_INCH)
    with style():
        engine.execute(figure)
    figure.set_layout_engine(None)


def plain_logarithms(axis: Axis) -> None:
    """Labels a logarithmic axis as 0.001, or throughout as 1e-3 if it has labels below 0.0001.

    Matplotlib's powers of ten need mathtext, which is off.
    """
    low, high = axis.get_view_interval()
    if high < 100 * low:
        # Powers of ten alone could leave an axis with a single label; below a factor of 5 so could 1, 2 and 5, and
        # matplotlib would then label more values than a narrow axis has room for.
        axis.set_major_locator(MaxNLocator(3) if high < 5 * low else LogLocator(subs=(1, 2, 5)))

    def label(value: float, place: int | None) -> str:
        low, _ = axis.get_view_interval()
        ticks = np.asarray(axis.get_majorticklocs())
        if ticks[ticks >= low].min(initial=1) > 0.999e-4:
            return f"{value:g}"
        return np.format_float_scientific(value, precision=6, trim="-", exp_digits=1).replace("e+", "e")

    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(NullFormatter())


def tick_epochs(ax: Axes, epochs: Sequence[int], most: int = 8) -> None:
    """About `most` ticks at whole epochs, among them the last one; a round one that is too near to it is left out."""
    if not epochs:
        return
    first, last = min(epochs), max(epochs)
    ticks = [tick for tick in MaxNLocator(most, integer=True).tick_values(first, last) if first <= tick <= last]
    apart = 0.96 / most * (last - first)
    ax.set_xticks([*(int(tick) for tick in ticks if last - tick > apart), last])


def model_colour(name: str) -> str:
    """The colour of a model in all figures; another network than the report's two has `OTHER_COLOUR`."""
    return MODEL_COLOURS.get(name, OTHER_COLOUR)


def limits_around_zero(values: np.ndarray) -> Limits:
    """Limits symmetric around zero, so that zero is the middle of a diverging scale."""
    largest = float(np.max(np.abs(values), initial=0, where=np.isfinite(values)))
    return (-largest, largest) if largest > 0 else (-1.0, 1.0)


def limits_of_most(weights: np.ndarray) -> Limits:
    """Limits around zero at the `MOST`-th percentile of the absolute weights of the kernels (kernels, …) that live.

    A single large weight would make all others look like zero, and collapsed kernels would make the limits small.
    """
    sizes = np.abs(weights[alive(weights)])
    largest = float(np.percentile(sizes, MOST)) if sizes.size else 0.0
    return (-largest, largest) if largest > 0 else limits_around_zero(weights)


def alive(weights: np.ndarray) -> np.ndarray:
    """Whether each kernel of (kernels, …) has a weight of at least `COLLAPSED`."""
    return np.abs(weights).reshape(len(weights), -1).max(axis=1) >= COLLAPSED


def limits_from_zero(values: np.ndarray) -> Limits:
    """Limits from zero to the largest value, or to 1 if no value is positive."""
    largest = float(np.max(values, initial=0, where=np.isfinite(values)))
    return 0.0, largest if largest > 0 else 1.0


def picture(ax: Axes, image: np.ndarray) -> None:
    """Draws an image (H, W, 3) of bytes without ticks."""
    ax.imshow(image, interpolation="nearest")
    frame(ax)


def frame(ax: Axes) -> None:
    """Draws a thin frame in place of ticks."""
    ax.set(xticks=[], yticks=[], facecolor="#dddddd")
    ax.spines[:].set(visible=True, linewidth=0.5, color="#bbbbbb")


@cache
def colour_map(name: str) -> Colormap:
    """The colour map of this name; matplotlib would copy it, and compute its colours again, for each use."""
    return matplotlib.colormaps[name]


def ink_on(cmap: str, share: float) -> str:
    """Black or white, whichever is readable on the colour at `share` (0..1) of the colour map."""
    red, green, blue = np.array(colour_map(cmap)(float(share))[:3]) ** 2.2
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.25 else PAPER


def colour_bar(axes: Sequence[Axes], limits: Limits, cmap: str, label: str) -> None:
    """Draws one colour bar beside the panels that share it."""
    place = {"location": "right", "pad": 0.01, "fraction": 0.03}
    if page_width() < WIDTH:
        place = {"location": "bottom", "pad": 0.03, "fraction": 0.03}
    fill_colour_bar(axes[0], limits, cmap, label, ax=list(axes), aspect=30, **place)


def fill_colour_bar(within: Axes, limits: Limits, cmap: str, label: str, **place: Any) -> None:
    """Draws a colour bar in the figure of `within`; with ``cax=within`` it fills those axes."""
    figure = within.get_figure(root=True)
    assert figure is not None
    ticks = MaxNLocator(4, symmetric=limits[0] < 0)
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), cmap), label=label, ticks=ticks, **place)
    bar.outline.set_visible(False)


def placeholder(ax: Axes, text: str) -> None:
    """Writes `text` into empty axes: why there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=QUIET)


def head(figure: Figure, title: str) -> None:
    """Sets the title of a figure of many panels, at the same place as that of a single panel."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)


def scale(layer: str, values: np.ndarray) -> Scale:
    """Limits and colour map of a layer: from zero for ReLU and pooling, symmetric around zero for convolutions."""
    if layer.startswith(("relu", "pool")):
        return limits_from_zero(values), SEQUENTIAL
    return limits_around_zero(values), DIVERGING
