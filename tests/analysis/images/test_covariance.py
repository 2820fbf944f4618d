import numpy as np
import pandas as pd
import pytest

from analysis.drawing.screens import narrow_version
from analysis.images.covariance import (
    COVARIANCE_NOTE,
    choose,
    covariance,
    covariance_caption,
    draw_covariance,
    measure,
    show,
    shrink,
)
from analysis.images.distance import (
    DIRECTIONS,
    by_distance,
    correlation,
    distance_caption,
    distance_points,
    draw_distance,
)
from tests.support.legibility import problems_on_screens

SHAPE = (3, 4, 8)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)
IMAGES[:, :, :, 1:] = IMAGES[:, :, :, 1:] // 2 + IMAGES[:, :, :, :-1] // 2
MATRIX = covariance(IMAGES)
TABLE = by_distance(MATRIX, SHAPE)
MEASURED = measure(IMAGES)


def test_the_covariance_is_numpys_of_the_normalised_images():
    scaled = IMAGES.reshape(40, -1) / 127.5 - 1
    np.testing.assert_allclose(MATRIX, np.cov(scaled.T), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(MATRIX.diagonal(), scaled.var(axis=0, ddof=1))


def test_flattened_pixels_stand_channel_by_channel_and_row_by_row():
    red, blue = IMAGES[:, 0, 1, 2] / 127.5, IMAGES[:, 2, 3, 7] / 127.5
    assert MATRIX[1 * 8 + 2, 2 * 32 + 3 * 8 + 7] == pytest.approx(np.cov(red, blue)[0, 1])


def test_means_by_distance_are_those_of_every_pair_looked_at_alone():
    ratios = np.corrcoef(IMAGES.reshape(40, -1).T)
    places = np.array(np.unravel_index(np.arange(96), SHAPE)).T
    pairs: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    for first, (channel, row, column) in enumerate(places):
        for second, (channel_, row_, column_) in enumerate(places):
            names = "–".join(("red", "green", "blue")[number] for number in (channel, channel_))
            directions = np.array(DIRECTIONS)[[True, row == row_, column == column_]]
            distance = round(float(np.hypot(row - row_, column - column_)))
            for direction in directions:
                pairs.setdefault((names, direction, distance), []).append(
                    (MATRIX[first, second], ratios[first, second])
                )
    assert set(zip(TABLE["channels"], TABLE["direction"], TABLE["distance"], strict=True)) <= set(pairs)
    for row in TABLE.itertuples():
        values = pairs[row.channels, row.direction, row.distance]
        assert row.pairs == len(values)
        assert (row.covariance, row.correlation) == pytest.approx(tuple(np.mean(values, axis=0)))


def test_a_pixel_correlates_with_itself_and_less_with_its_neighbour():
    assert correlation(TABLE, ["red–red", "blue–blue"], 0) == pytest.approx(1)
    neighbour, far = (correlation(TABLE, ["red–red"], distance, "along a row") for distance in (1, 6))
    assert 0.3 < neighbour < 0.9
    assert abs(far) < 0.2


def test_pixels_that_never_change_have_no_correlation():
    images = IMAGES.copy()
    images[:, :, 0] = 77
    table = by_distance(covariance(images), SHAPE)
    assert correlation(table, ["red–red"], 0) == pytest.approx(1)
    assert correlation(table, ["green–blue"], 3, "along a column") != correlation(table, ["red–red"], 0)
    top = table[(table["channels"] == "red–red") & (table["direction"] == "along a column") & (table["distance"] == 3)]
    assert top["correlation"].isna().all()


def test_images_that_are_all_the_same_are_said_to_have_none():
    images = np.full((3, *SHAPE), 9, np.uint8)
    matrix = covariance(images)
    table = by_distance(matrix, SHAPE)
    assert not matrix.any()
    assert distance_caption(table).startswith("Within a channel the mean correlation is undefined at 1")
    measured = measure(images)
    assert covariance_caption(measured).startswith("Of 3 training images")
    draw_distance(table).draw_without_rendering()
    draw_covariance(measured).draw_without_rendering()


def test_the_chosen_images_follow_from_the_seed_and_are_all_where_there_are_fewer():
    assert choose(5, 6000).tolist() == [0, 1, 2, 3, 4]
    chosen = choose(50_000)
    assert len(np.unique(chosen)) == 6000
    assert chosen.tolist() == choose(50_000).tolist() == sorted(chosen)
    assert chosen.tolist() != choose(50_000, seed=1).tolist()


def test_shrinking_averages_squares():
    matrix = np.arange(64.0).reshape(8, 8)
    small = shrink(matrix, 4)
    assert small.shape == (2, 2)
    assert small[0, 1] == matrix[:4, 4:].mean()


def test_a_side_that_is_no_multiple_has_smaller_squares_at_its_end():
    matrix = np.arange(36.0).reshape(6, 6)
    small = shrink(matrix, 4)
    assert small.shape == (2, 2)
    assert small[0, 1] == matrix[:4, 4:].mean()
    assert small[1, 1] == matrix[4:, 4:].mean()


def test_large_images_are_reduced_and_that_is_said():
    images = IMAGES.repeat(12, axis=2).repeat(6, axis=3)  # 48 × 48
    covered, correlated = show(measure(images))
    assert covered.note.endswith("A pixel here is the mean of 2 × 2 pixels of the images.")
    assert correlated.note == "A pixel here is the mean of 2 × 2 pixels of the images."
    measured, means = measure(images), images.reshape(40, 3, 24, 2, 24, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(measured.variances, (means / 127.5).var(axis=0, ddof=1))
    assert measured.variances.shape == (3, 24, 24)
    covered.figure.draw_without_rendering()
    assert not measure(np.full((3, 3, 48, 48), 9, np.uint8)).variances.any()
    assert next(show(MEASURED)).note == COVARIANCE_NOTE


def test_the_captions_have_the_tables_numbers():
    text = covariance_caption(MEASURED)
    red = MATRIX[:32, :32].mean()
    within = np.mean([red, MATRIX[32:64, 32:64].mean(), MATRIX[64:, 64:].mean()])
    assert f"Of 40 training images (pixels from −1 to 1) {(MATRIX > 0).mean():.1%}" in text
    assert f"; the mean of all is {within:.3f} within a channel and " in text
    caption = distance_caption(TABLE)
    assert f"{correlation(TABLE, ['red–red', 'green–green', 'blue–blue'], 1):.2f} at 1," in caption
    assert "undefined at 15 pixels' distance" in caption
    assert f"{correlation(TABLE, ['red–green'], 0):.2f}".replace("-", "−") + " (red–green)" in caption


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ([1.0, 0.5, 0.1, 0.2, -0.6], "it is lowest at 2, 0.10, and 0.20 at 3."),
        ([1.0, 0.5, 0.3, 0.2, -0.6], "it is lowest at 3, 0.20."),
    ],
)
def test_the_lowest_correlation_is_said_to_be_so_of_the_distances_that_were_compared(means: list[float], said: str):
    """The distance of 4 is only that of some diagonals."""
    every = {"channels": "red–red", "direction": DIRECTIONS[0], "distance": range(5), "correlation": means}
    along = {"channels": "red–red", "direction": DIRECTIONS[1], "distance": range(4), "correlation": 0.0}
    sentence = distance_points(pd.concat([pd.DataFrame(every), pd.DataFrame(along)]))[-1]
    assert sentence == f"In any direction, of distances up to 3 pixels, {said}"


def test_the_channels_are_marked_and_the_whole_stands_beside_a_piece():
    figure = draw_covariance(MEASURED)
    whole, piece = figure.axes[:2]
    assert [label.get_text() for label in whole.get_xticklabels()] == ["red", "green", "blue"]
    np.testing.assert_allclose(whole.images[0].get_array(), shrink(MATRIX))
    assert whole.images[0].get_clim() == piece.images[0].get_clim() == (-MATRIX.max(), MATRIX.max())
    np.testing.assert_array_equal(piece.images[0].get_array(), MATRIX[:32, :32])
    labels = {ax.get_ylabel() or ax.get_xlabel() for ax in figure.axes}
    assert {"covariance (pixels from −1 to 1)", "variance (pixels from −1 to 1)"} <= labels
    variances = [ax for ax in figure.axes if ax.get_xlabel() in ("red", "green", "blue")]
    np.testing.assert_array_equal(variances[1].images[0].get_array(), MATRIX.diagonal().reshape(SHAPE)[1])


def test_the_three_variance_maps_stand_in_a_row_on_wide_and_narrow_screens():
    figure = draw_covariance(MEASURED)
    for drawn in (figure, narrow_version(figure)):
        variances = [ax.get_position() for ax in drawn.axes if ax.get_xlabel() in ("red", "green", "blue")]
        assert len({round(place.y0, 9) for place in variances}) == 1
        assert len({round(place.x0, 9) for place in variances}) == 3
    assert problems_on_screens(figure) == []


def test_the_curves_are_those_of_the_table():
    left, right = draw_distance(TABLE).axes
    assert [line.get_label() for line in left.lines][:2] == ["red with red", "green with green"]
    line = left.lines[3]
    part = TABLE[(TABLE["channels"] == "red–green") & (TABLE["direction"] == DIRECTIONS[0])]
    assert line.get_label() == "red with green"
    np.testing.assert_array_equal(line.get_ydata(), part["correlation"])
    assert [line.get_label() for line in right.lines][:3] == list(DIRECTIONS)
