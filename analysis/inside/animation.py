"""One filter over the epochs as an animated GIF: its kernel, its maps of one image, and the test accuracy."""

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import Bbox
from PIL import Image
from sklearn.cluster import KMeans

from analysis.drawing import style
from analysis.drawing.epoch_strips import Maps
from analysis.drawing.style import scale
from analysis.drawing.wording import layer_name, measured
from analysis.exhibit import Exhibit
from analysis.inside.activations import activation_evolution
from analysis.inside.kernels import channel_names, kernel_evolution

DOTS_PER_INCH = 100
MILLISECONDS, LAST_MILLISECONDS = 350, 2000
"""Duration of each epoch's frame, and of the last one."""
MOST_LETTERS = 120
"""Most characters in a line of the title, which may hold the long path of an image."""


def show(
    weights: dict[int, np.ndarray],
    maps: dict[str, dict[int, np.ndarray]],
    accuracy: Mapping[int, float],
    layer: str,
    filter: int,
    *,
    image: np.ndarray,
    description: str,
) -> Exhibit:
    """One filter's kernel and maps over all epochs, as an animation.

    Args:
        weights: see `kernels.kernel_evolution`.
        maps: see `activations.activation_evolution`; at the same epochs.
        accuracy: see `frames`.
        layer: the convolution's name.
        filter: the filter's number.
        image: (H, W, 3), bytes.
        description: which image it is.
    """
    shown, title = activation_evolution(maps), f"Filter {filter} of {layer} on {description}"
    pictures = frames(kernel_evolution(weights, filter), shown, accuracy, layer=layer, image=image, title=title)
    heading = f"Filter {filter} of {layer} from epoch {min(weights)} to {max(weights)}, animated"
    return Exhibit(f"animation_{layer}_filter{filter}", heading, caption(shown), gif=gif(pictures))


def frames(
    kernel: pd.DataFrame,
    maps: pd.DataFrame,
    accuracy: Mapping[int, float],
    *,
    layer: str,
    image: np.ndarray,
    title: str,
) -> list[np.ndarray]:
    """One frame (height, width, 3) of bytes per epoch; the kernel and each map keep one scale throughout.

    Args:
        kernel: see `kernels.kernel_evolution`.
        maps: see `activations.activation_evolution`; at the same epochs.
        accuracy: test accuracy (0..1) by epoch; epochs that were not measured are left out.
        layer: the convolution's name.
        image: (H, W, 3), bytes.
        title: of every frame.
    """
    channels = sorted(kernel["channel"].unique())
    names = dict(zip(channels, channel_names(layer, channels), strict=True))
    weights = kernel.assign(layer=kernel["channel"].map(names)).rename(columns={"weight": "value"})
    shown = _by_epoch(weights) | _by_epoch(maps)
    scales = dict.fromkeys(
        names.values(), (style.limits_around_zero(weights["value"].to_numpy(float)), style.DIVERGING)
    )
    scales |= {
        str(name): scale(str(name), part["value"].to_numpy(float)) for name, part in maps.groupby("layer", sort=False)
    }
    with style.style():
        return list(_draw_frames(shown, scales, list(names.values()), accuracy, image, title))


def _by_epoch(table: pd.DataFrame) -> Maps:
    return {
        (str(layer), int(str(epoch))): part.pivot(index="row", columns="column", values="value").to_numpy(float)
        for (layer, epoch), part in table.groupby(["layer", "epoch"])
    }


def _draw_frames(
    shown: Maps,
    scales: dict[str, style.Scale],
    slices: list[str],
    accuracy: Mapping[int, float],
    image: np.ndarray,
    title: str,
) -> Iterator[np.ndarray]:
    figure = style.figure(9.4, 3.6)
    canvas = FigureCanvasAgg(figure)
    style.head(figure, textwrap.fill(title, MOST_LETTERS))
    grid = figure.add_gridspec(3, 5, height_ratios=[1, 0.05, 0.3])
    picture = figure.add_subplot(grid[0, 0])
    style.picture(picture, image)
    picture.set_title("image", loc="center")
    axes = _kernel_axes(figure, grid, slices) | _map_axes(figure, grid, [name for name in scales if name not in slices])
    bars = _draw_bars(figure, grid, slices, scales)
    epoch_text = figure.add_subplot(grid[2, 0])
    dot = _draw_curve(figure.add_subplot(grid[2, 1:]), accuracy)
    for epoch in sorted({epoch for _, epoch in shown}):
        for name, ax in axes.items():
            _clear(ax)
            style.panel(ax, shown[name, epoch], *scales[name])
        dot.set_data([epoch], [accuracy.get(epoch, np.nan)])
        _write_epoch(epoch_text, epoch, accuracy)
        if bars:
            # Laid out once, so that the panels do not move; then the colour bars get the panels' widths.
            canvas.draw()
            figure.set_layout_engine("none")
            _align(bars, axes, slices)
            bars = {}
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _clear(ax: Axes) -> None:
    for artist in (*ax.images, *ax.texts):
        artist.remove()


def _kernel_axes(figure: Figure, grid: GridSpec, slices: list[str]) -> dict[str, Axes]:
    # Two by two: in a single row or column the slices would be smaller.
    inner = grid[0, 1].subgridspec(2, 2)
    axes = {name: figure.add_subplot(inner[divmod(place, 2)]) for place, name in enumerate(slices)}
    for name, ax in axes.items():
        ax.set_title(name.partition("\n")[0], loc="center", fontsize=8, pad=2)
    return axes


def _map_axes(figure: Figure, grid: GridSpec, names: list[str]) -> dict[str, Axes]:
    axes = {name: figure.add_subplot(grid[0, column]) for column, name in enumerate(names, start=2)}
    for name, ax in axes.items():
        ax.set_title(layer_name(name), loc="center")
    return axes


def _draw_bars(figure: Figure, grid: GridSpec, slices: list[str], scales: dict[str, style.Scale]) -> dict[str, Axes]:
    """Colour bars below the kernel, by the name of its first slice, and below each map."""
    bars = {}
    for column, name in enumerate([slices[0], *(name for name in scales if name not in slices)], start=1):
        bars[name] = figure.add_subplot(grid[1, column])
        label = "weight" if name == slices[0] else measured(name)
        style.fill_colour_bar(bars[name], *scales[name], label, cax=bars[name], orientation="horizontal")
        bars[name].xaxis.set_major_locator(MaxNLocator(2))  # more could overlap
    return bars


def _align(bars: dict[str, Axes], axes: dict[str, Axes], slices: list[str]) -> None:
    for name, bar in bars.items():
        above = Bbox.union([axes[panel].get_position() for panel in (slices if name == slices[0] else [name])])
        place = bar.get_position()
        bar.set_position((above.x0, place.y0, above.width, place.height))


def _draw_curve(ax: Axes, accuracy: Mapping[int, float]) -> Line2D:
    """Draws the accuracy over the epochs, and returns the dot that marks the current epoch."""
    ax.plot(list(accuracy), list(accuracy.values()), color=style.INK, linewidth=1)
    (dot,) = ax.plot([], [], "o", color=style.CLASS_COLOURS[2])
    ax.set(xlabel="epoch", ylim=(0, 1))
    ax.set_title("test accuracy")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.02)
    if len(accuracy) == 1:
        ax.set_xticks(list(accuracy))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return dot


def _write_epoch(ax: Axes, epoch: int, accuracy: Mapping[int, float]) -> None:
    _clear(ax)
    ax.set_axis_off()
    text = f"test accuracy {accuracy[epoch]:.1%}" if epoch in accuracy else "accuracy not measured"
    ax.text(0, 0.9, f"epoch {epoch}", transform=ax.transAxes, va="top", fontsize=14)
    ax.text(0, 0.2, text, transform=ax.transAxes, va="top")


def caption(maps: pd.DataFrame) -> str:
    """One sentence: the filter's largest activation at the first epoch, at its peak and at the last epoch.

    Args:
        maps: see `frames`.
    """
    rectified = maps[maps["layer"].str.startswith("relu")]
    strongest = {int(str(epoch)): float(part.max()) for epoch, part in rectified.groupby("epoch")["value"]}
    first, last, peak = min(strongest), max(strongest), max(strongest, key=strongest.__getitem__)
    if strongest[peak] <= 0:
        return f"Its ReLU is zero everywhere at every epoch from {first} to {last}."
    text = (
        f"Its largest activation is {strongest[first]:.3g} at epoch {first} and {strongest[last]:.3g} at epoch {last}"
    )
    text += f", with a peak of {strongest[peak]:.3g} at epoch {peak}" if peak not in (first, last) else ""
    silent = sum(value <= 0 for value in strongest.values())
    return f"{text}; it is silent at {silent} of {len(strongest)} epochs."


def gif(pictures: Iterable[np.ndarray]) -> bytes:
    """The frames (height, width, 3) as an endless GIF; the last one is shown longer.

    All frames share one palette of colour clusters, without dithering, which would look like noise in the maps.
    """
    # Each pixel's colour as one number: an index into a table of all 2²⁴ colours.
    coded = [picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32) for picture in pictures]
    table = np.zeros(1 << 24, np.uint8)
    for frame in coded:
        table[frame] = 1
    colours = np.flatnonzero(table)
    table[colours], palette = _clusters(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1))
    shown = [Image.fromarray(table[frame]) for frame in coded]
    for indexed in shown:
        indexed.putpalette(palette.tobytes())
    times = [MILLISECONDS] * (len(shown) - 1) + [LAST_MILLISECONDS]
    file = io.BytesIO()
    shown[0].save(file, "GIF", save_all=True, append_images=shown[1:], duration=times, loop=0)
    return file.getvalue()


def _clusters(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For colours (N, 3), the last one white: the palette index of each, and the palette, bytes (256, 3)."""
    clusters = KMeans(min(256, len(colours)), n_init=1, max_iter=50, random_state=0).fit(colours)
    palette = np.round(clusters.cluster_centers_).astype(np.uint8)
    # White stays exact: a tinted background would be the most visible error.
    palette[clusters.labels_[-1]] = colours[-1]
    return clusters.labels_, palette
