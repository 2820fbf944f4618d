import re
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from analysis.drawing.numbered_cells import Outline, Panel, draw_rows
from analysis.drawing.wording import number
from analysis.layers import operations, pooling, worked_example
from analysis.layers.operations import MARKS, arrays, tabulate, total, windows

RNG = np.random.default_rng(0)
PATCH = RNG.integers(0, 256, (8, 8))
KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
IMAGE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def written(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def by_title(figure):
    return {ax.get_title("left").replace("\n", " "): ax for ax in figure.axes}


def convolved(image: np.ndarray, step: int = 1) -> np.ndarray:
    cut = np.lib.stride_tricks.sliding_window_view(image, (3, 3))[::step, ::step]
    return (cut * KERNEL).sum(axis=(2, 3))


def test_the_table_gives_the_arrays_back():
    panels = {"b": PATCH, "a": KERNEL, "c": np.array([[1.5]])}
    table = tabulate(panels)
    assert list(table) == ["panel", "row", "column", "value"]
    back = arrays(table)
    assert list(back) == ["b", "a", "c"]
    assert all((back[name] == values).all() for name, values in panels.items())


@pytest.mark.parametrize(
    ("value", "digits", "expected"), [(-0.001, 2, "0.00"), (-3, 0, "−3"), (1234.5, 1, "1,234.5"), (0.25, 1, "0.2")]
)
def test_numbers_have_true_minus_signs_and_no_negative_zero(value, digits, expected):
    assert number(value, digits) == expected


def test_a_sum_is_written_as_one():
    assert total([1, -2, 0, 3]) == "1 − 2 + 0 + 3"


def test_a_dilated_kernel_touches_single_pixels_and_a_plain_one_a_square():
    assert windows([(1, 2)], 3, stride=2) == [Outline(2, 4, 3, 3, MARKS[0])]
    touched = {(frame.top, frame.left) for frame in windows([(0, 1)], 3, dilation=2)}
    assert touched == {(row, column) for row in (0, 2, 4) for column in (1, 3, 5)}


def test_a_convolution_shows_every_number_and_the_sums():
    result, places = convolved(PATCH), [(0, 0), (0, 1), (5, 5)]
    panels = {"patch": PATCH, "kernel": KERNEL, "map": result}
    for count, (row, column) in enumerate(places, start=1):
        window = PATCH[row : row + 3, column : column + 3]
        panels |= {f"window {count}": window, f"products {count}": window * KERNEL}
    table = tabulate(panels | {"whole map": convolved(IMAGE[..., 1].astype(int))})
    figure = operations.draw_convolution(table, image=IMAGE, corner=(3, 4), places=places)
    shown = by_title(figure)
    assert written(shown["green channel of the patch, 0 to 255"]) == [str(value) for value in PATCH.ravel()]
    assert written(shown["map, 6 × 6"]) == [number(value).replace(",", "") for value in result.ravel()]
    sums = [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()]
    assert sums == [f"sum {number(result[place])}" for place in places]
    assert f"sum to {number(result[0, 0])}, and" in operations.convolution_caption(table, (3, 4))
    figure.draw_without_rendering()


def padding_table():
    padded = np.pad(PATCH, 1)
    inputs = {"input, padding 0": PATCH, "input, padding 1": padded}
    return tabulate(
        {"kernel": KERNEL, **inputs, "map, padding 0": convolved(PATCH), "map, padding 1": convolved(padded)}
    )


def test_padding_is_drawn_apart_from_the_image():
    figure = operations.draw_padding(padding_table())
    border = by_title(figure)["patch with padding 1, 10 × 10"]
    white = [patch for patch in border.patches if patch.get_facecolor()[:3] == (1, 1, 1) and patch.get_fill()]
    assert len(white) == 100 - 64
    figure.draw_without_rendering()


def test_the_caption_on_padding_compares_border_and_inside():
    text = operations.padding_caption(padding_table())
    padded = np.abs(convolved(np.pad(PATCH, 1)))
    inside = padded[1:-1, 1:-1].max()
    padded[1:-1, 1:-1] = 0
    assert text.startswith("The map of the patch is 6 × 6 with padding 0 and 8 × 8 with padding 1; ")
    assert f"up to ±{number(padded.max())}, inside up to ±{number(inside)}." in text


def test_strides_and_dilations_stand_in_columns_on_one_scale():
    steps = (1, 2, 3)
    panels = {"patch": PATCH, "kernel": KERNEL}
    panels |= {f"map, stride {step}": convolved(PATCH, step) for step in steps}
    panels |= {f"whole map, stride {step}": convolved(IMAGE[..., 0].astype(int), step) for step in steps}
    table = tabulate(panels)
    figure = operations.draw_stride(table)
    maps = [ax for ax in figure.axes if ax.get_title("left").startswith("map, ")]
    assert [written(ax)[0] for ax in maps] == [number(convolved(PATCH)[0, 0]).replace(",", "")] * 3
    assert len({ax.images[0].get_clim() for ax in maps}) == 1
    lefts = np.array([ax.get_position().x0 for ax in figure.axes if ax.images]).reshape(3, 3)
    np.testing.assert_allclose(lefts, lefts[:1].repeat(3, axis=0))
    bars = [ax for ax in figure.axes if not ax.images]
    whole = [ax for ax in figure.axes if ax.get_title("left").startswith("map of the whole")]
    assert [ax.get_xlim() for ax in bars] == [ax.images[0].get_clim() for ax in whole]
    assert operations.sizes_caption(table, "stride") == (
        "Of a patch of 8 × 8 pixels the map is 6 × 6 with stride 1, 3 × 3 with stride 2 and 2 × 2 with stride 3; "
        "of the whole image it is 30 × 30 with stride 1, 15 × 15 with stride 2 and 10 × 10 with stride 3."
    )
    renamed = table.assign(panel=table["panel"].str.replace("stride", "dilation"))
    operations.draw_dilation(renamed).draw_without_rendering()


def test_pooling_frames_what_it_keeps():
    values = RNG.normal(size=(4, 4))
    rectified = np.maximum(values, 0)
    pooled = rectified.reshape(2, 2, 2, 2).max(axis=(1, 3))
    kept = np.isin(rectified, pooled) & (rectified > 0)
    parts = {"map": values, "ReLU": rectified, "pooled": pooled}
    table = tabulate({**parts, "kept": kept, **{f"whole {name}": part for name, part in parts.items()}})
    figure = pooling.draw_pooling(table, size=2)
    framed = {(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in figure.axes[1].patches if patch.get_width() == 1}
    assert framed == {tuple(place) for place in np.argwhere(kept)}
    assert f"sets {(values < 0).mean():.0%} to zero" in pooling.pooling_caption(table)
    figure.draw_without_rendering()


def test_an_image_of_one_colour_is_drawn_like_any_other():
    black = np.zeros((8, 8))
    table = tabulate({"patch": black, "kernel": KERNEL, "map, stride 1": black, "whole map, stride 1": black})
    figure = operations.draw_stride(table)
    assert set(written(figure.axes[0])) == {"0"}
    figure.draw_without_rendering()


@pytest.mark.parametrize("size", [5, 11])
def test_a_value_is_worked_out_from_the_colours_and_the_bias(size):
    pixels, kernel = RNG.uniform(-1, 1, (2, 3, size, size))
    result = RNG.normal(size=(20, 20))
    result[2, 3] = (pixels * kernel).sum() + 0.5
    table = tabulate(worked_example.panels(pixels, kernel, pixels * kernel, result))
    figure = worked_example.draw_worked(
        table, image=IMAGE, box=[0, 1, size, size], place=(2, 3), bias=0.5, title="Filter 1"
    )
    shown = by_title(figure)
    assert [len(written(shown[f"weights, {colour}"])) for colour in ("red", "green", "blue")] == [
        (25 if size == 5 else 0)
    ] * 3
    digits = worked_example.sum_digits([*(pixels * kernel).sum(axis=(1, 2)), 0.5])
    assert shown["products, red"].get_xlabel() == f"sum {number((pixels * kernel)[0].sum(), digits)}"
    assert figure.get_figwidth() <= 10.1
    figure.draw_without_rendering()


def worked(result: np.ndarray, bias: float, sums: list[float], box: list[int]) -> str:
    """The caption for a value of `result` whose colours sum to `sums`; the window is at `box` in an image."""
    products = np.zeros((3, 2, 2))
    products[:, 0, 0] = sums
    numbers = worked_example.panels(np.ones((3, 2, 2)), products, products, result)
    return worked_example.show(numbers, 1, place=(0, 0), bias=bias, image=IMAGE, box=box).text


@pytest.mark.parametrize("seed", range(5))
def test_the_written_terms_add_up_to_the_written_sum(seed: int):
    *sums, bias = (float(term) for term in np.random.default_rng(seed).normal(size=4))
    result = np.array([[sum(sums) + bias, -9.0]])
    text = worked(result, bias, sums, [0, 0, 2, 2]).replace("−", "-")
    value, red, green, blue, last = (Decimal(term) for term in re.findall(r"-?\d+\.\d{3,}", text))
    assert red + green + blue + last == value
    assert float(value) == pytest.approx(result[0, 0], abs=6e-4)


def test_digits_are_added_until_rounding_hides_nothing():
    assert worked_example.sum_digits([0.1234, 0.1234, 0.1234]) == 4  # 3 × 0.123 is not 0.370
    assert worked_example.sum_digits([0.25, -0.5]) == 3


def test_the_largest_value_is_said_to_be_so_only_of_the_windows_that_were_compared():
    result = np.array([[1.0, 5.0], [0.0, 0.0]])
    assert worked(result, 0.0, [1.0, 0.0, 0.0], [0, 0, 2, 2]).startswith(
        "The largest value of filter 1's map whose window lies within the image, 1.000 at row 0"
    )
    assert worked(result, 0.0, [1.0, 0.0, 0.0], [-1, 0, 2, 2]).startswith("The largest value of filter 1's map, 1.000")
    flat = worked(np.full((2, 2), 0.5), 0.5, [0.0, 0.0, 0.0], [0, 0, 2, 2])
    assert flat.startswith("One of the equal values of filter 1's map, 0.500 at row 0")


def test_the_map_of_a_black_image_is_not_said_to_be_positive_anywhere():
    black = np.zeros((8, 8))
    panels = {"patch": black, "kernel": KERNEL, "map": convolved(black), "whole map": convolved(black)}
    table = tabulate({**panels, "products 1": black[:3, :3]})
    assert operations.convolution_caption(table, (0, 0)).endswith("the map of the whole image is 0 throughout.")


def test_long_titles_are_broken_and_no_wider_than_their_panel():
    panels = [Panel(values=np.zeros((3, 3)), title="a rather long title over a small panel") for _ in range(3)]
    figure = draw_rows([panels], title="t")
    figure.draw_without_rendering()
    titles = [text.get_window_extent() for text in figure.findobj(Text) if "rather" in text.get_text()]
    assert len(titles) == 3
    for before, after in pairwise(titles):
        assert before.x1 < after.x0
