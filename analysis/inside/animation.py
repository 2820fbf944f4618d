"""One filter over the epochs as an animated GIF: its kernel, its maps of one image, and the test accuracy."""

import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from sklearn.cluster import KMeans

from analysis.drawing import style
from analysis.drawing.screens import is_narrow
from analysis.drawing.style import scale
from analysis.drawing.tiles import LINE, MARGIN, beside, draw_picture, draw_tile, set_map, sheet
from analysis.drawing.wording import layer_name, measured
from analysis.exhibit import Exhibit
from analysis.inside.activations import activation_evolution
from analysis.inside.kernels import channel_names, kernel_evolution, note

Maps = dict[tuple[str, int], np.ndarray]
"""Maps (H, W) by layer, or slice of the kernel, and epoch."""
MILLISECONDS, LAST_MILLISECONDS = 350, 2000
"""Duration of each epoch's frame, and of the last one."""
SPACE, BAR, CURVE = 0.2, 0.5, 1.13
"""Inches: between maps, below them for a colour bar, and below the last ones for the curve."""
IN_ROW = {"red", "green", "blue"}
"""Slices of the kernel that stand side by side in one row; others, whose headings are longer, two by two."""


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
    """One filter's kernel and maps over all epochs, as an animation; one line if it never fires after the first.

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
    name, heading = f"animation_{layer}_filter{filter}", f"Filter {filter} of {layer}, animated"
    if not _fires(maps):
        return Exhibit(name, heading, caption(shown))
    kernel = kernel_evolution(weights, filter)

    def drawn() -> bytes:
        return gif(frames(kernel, shown, accuracy, layer=layer, image=image, title=title))

    with style.narrow_page():
        narrow = drawn()
    channels = weights[min(weights)].shape[1]
    return Exhibit(name, heading, caption(shown), note=note(kernel, channels), gif=drawn(), narrow_gif=narrow)


def _fires(maps: dict[str, dict[int, np.ndarray]]) -> bool:
    """Whether ReLU lets anything pass after the first epoch."""
    [rectified] = (by_epoch for name, by_epoch in maps.items() if name.startswith("relu"))
    return any(values.max() > 0 for epoch, values in rectified.items() if epoch > min(rectified))


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
    epochs = sorted({epoch for _, epoch in shown})
    maps = [name for name in scales if name not in slices]
    columns, side = (2, (style.NARROW - 2 * MARGIN - SPACE) / 2) if is_narrow() else (5, 1.65)
    # The image, the kernel, the maps, and on a narrow screen the accuracy, row by row.
    rows = -(-(2 + len(maps) + is_narrow()) // columns)
    places = [
        (MARGIN + across * (side + SPACE), LINE + down * (LINE + side + BAR))
        for down, across in product(range(rows), range(columns))
    ]
    end = rows * (LINE + side + BAR)
    height = end if is_narrow() else end + CURVE
    figure, ax = sheet(2 * MARGIN + columns * side + (columns - 1) * SPACE, height, title)
    # The pixels of the page; the screens of phones have two or three for each of these.
    figure.set_dpi(style.DOTS_PER_INCH if is_narrow() else style.PAGE_PIXELS)
    canvas = FigureCanvasAgg(figure)
    draw_picture(ax, image, *places[0], side, "image")
    tiles = {}
    left, top = places[1]
    headings = [name.partition("\n")[0] for name in slices]
    # The side of a slice is a share of that of a map.
    in_row, share = (3, 0.3) if set(headings) == IN_ROW else (2, 0.45)
    apart = side * (1 - share) / (in_row - 1)
    for number, name in enumerate(slices):
        down, across = divmod(number, in_row)
        place = left + across * apart, top + down * apart
        tiles[name] = draw_tile(ax, shown[name, epochs[0]], *place, share * side, scales[name], headings[number])
    # Below the only row, or below two.
    kernel_height = share * side if len(slices) <= in_row else side
    _draw_bar(ax, left, top + kernel_height - side, side, scales[slices[0]], "weight")
    for place, name in zip(places[2:], maps, strict=False):
        tiles[name] = draw_tile(ax, shown[name, epochs[0]], *place, side, scales[name], layer_name(name))
        _draw_bar(ax, *place, side, scales[name], measured(name))
    left, top = places[2 + len(maps)] if is_narrow() else (MARGIN, end)
    text = ax.text(left, top, "", va="top", fontsize=10, linespacing=1.6, color=style.INK)
    curve = (left + 0.45, top + 0.85, side - 0.55, 0.55) if is_narrow() else (2.35, end + 0.23, 6.8, 0.45)
    dot = _draw_curve(beside(ax, *curve), accuracy)
    # Only these change from epoch to epoch: drawing the rest again takes most of the time.
    changing = [artist for tile in tiles.values() for artist in tile] + [text, dot]
    for artist in changing:
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    for epoch in epochs:
        canvas.restore_region(background)
        for name, tile in tiles.items():
            set_map(tile, shown[name, epoch], scales[name])
        dot.set_data([epoch], [accuracy.get(epoch, np.nan)])
        text.set_text(_epoch_text(epoch, accuracy))
        for artist in changing:
            ax.draw_artist(artist)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_bar(ax: Axes, left: float, top: float, side: float, scale: style.Scale, label: str) -> None:
    """A colour bar below a map, or below the kernel."""
    bar = beside(ax, left, top + side + 0.08, side, 0.09)
    style.fill_colour_bar(bar, *scale, label, cax=bar, orientation="horizontal")
    _tick_within(bar, scale[0])
    bar.tick_params(length=2, pad=1)
    bar.xaxis.labelpad = 0


def _tick_within(bar: Axes, limits: style.Limits) -> None:
    """Few ticks, whose labels stay over the bar: they would overlap each other, and those of the next bar."""
    low, high = limits
    ticks = [tick for tick in MaxNLocator(2).tick_values(low, high) if low <= tick <= high]
    bar.set_xticks(ticks)
    for tick, label in zip(ticks, bar.get_xticklabels(), strict=True):
        place = (tick - low) / (high - low)
        label.set_horizontalalignment("left" if place < 0.15 else "right" if place > 0.85 else "center")


def _draw_curve(ax: Axes, accuracy: Mapping[int, float]) -> Line2D:
    """Draws the accuracy over the epochs, and returns the dot that marks the current epoch."""
    ax.plot(list(accuracy), list(accuracy.values()), color=style.INK, linewidth=1)
    (dot,) = ax.plot([], [], "o", color=style.CLASS_COLOURS[2], clip_on=False)
    ax.set(xlabel="epoch", ylim=(0, 1))
    ax.set_title("test accuracy", fontsize=8)
    style.tick_epochs(ax, list(accuracy), most=3 if is_narrow() else 8)
    ax.margins(x=0.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return dot


def _epoch_text(epoch: int, accuracy: Mapping[int, float]) -> str:
    measured = f"test accuracy {accuracy[epoch]:.1%}" if epoch in accuracy else "accuracy not measured"
    return f"epoch {epoch}\n{measured}"


def caption(maps: pd.DataFrame) -> str:
    """One sentence: the filter's largest activation at the first epoch, at its peak and at the last epoch.

    Args:
        maps: see `frames`.
    """
    rectified = maps[maps["layer"].str.startswith("relu")]
    strongest = {int(str(epoch)): float(part.max()) for epoch, part in rectified.groupby("epoch")["value"]}
    first, last, peak = min(strongest), max(strongest), max(strongest, key=strongest.__getitem__)
    if strongest[peak] <= 0:
        return f"On this image its ReLU is zero everywhere at every epoch from {first} to {last}."
    largest = f"{strongest[first]:.3g} at epoch {first} and {strongest[last]:.3g} at epoch {last}"
    text = f"On this image its largest activation is {largest}"
    text += f", with a peak of {strongest[peak]:.3g} at epoch {peak}" if peak not in (first, last) else ""
    silent = sum(value <= 0 for value in strongest.values())
    return f"{text}; it is zero everywhere at {silent or 'none'} of the {len(strongest)} epochs."


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
    clusters = KMeans(min(256, len(colours)), n_init=1, max_iter=8, random_state=0).fit(colours)
    palette = np.round(clusters.cluster_centers_).astype(np.uint8)
    # White stays exact: a tinted background would be the most visible error.
    palette[clusters.labels_[-1]] = colours[-1]
    return clusters.labels_, palette
