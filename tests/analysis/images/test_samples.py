import numpy as np
import pytest

from analysis.images.samples import (
    MOST_CLASSES,
    class_samples,
    draw_image,
    draw_samples,
    image_caption,
    image_table,
    samples_caption,
    show,
)

RNG = np.random.default_rng(0)
LABELS = np.array([0, 1] * 12 + [2, 2])
CLASSES = ("cat", "the steam locomotive, seen from the side", "$_{$")
IMAGES = RNG.integers(0, 256, (26, 32, 32, 3), dtype=np.uint8)


def test_the_samples_are_each_classs_first_images():
    table = class_samples(LABELS, CLASSES)
    assert list(table) == ["class", "place", "index"]
    assert table.groupby("class", sort=False).size().tolist() == [10, 10, 2]
    assert table[table["class"] == "cat"]["index"].tolist() == list(range(0, 20, 2))
    assert samples_caption(table, LABELS, CLASSES) == (
        "Up to 10 training images of each of the 3 classes, as they are before normalisation; a class has 2 to 12 "
        "of the 26."
    )


def test_of_many_classes_the_first_are_shown_and_that_is_said():
    labels = np.repeat(np.arange(30), 10)
    classes = [f"class {number}" for number in range(30)]
    table = class_samples(labels, classes)
    assert table["class"].nunique() == MOST_CLASSES
    assert samples_caption(table, labels, classes).startswith("The first 10 training images of 20 of 30 classes")


def test_each_picture_stands_in_its_row_and_column():
    table = class_samples(LABELS, CLASSES)
    figure = draw_samples(table, [IMAGES[index] for index in table["index"]])
    [ax] = figure.axes
    sheet = np.asarray(ax.images[0].get_array())
    for row in table.itertuples():
        top, left = CLASSES.index(row[1]) * 34, row.place * 34
        np.testing.assert_array_equal(sheet[top : top + 32, left : left + 32], IMAGES[row.index])
    assert (sheet[2 * 34 :, 2 * 34 :] == 255).all()


@pytest.mark.parametrize("names", [CLASSES, ("a", "b", "c"), ("W" * 300, "unbroken", "x")])
def test_no_name_is_cut_by_the_figures_edge(names):
    table = class_samples(LABELS, names)
    figure = draw_samples(table, [IMAGES[index] for index in table["index"]])
    figure.draw_without_rendering()
    for label in figure.axes[0].get_yticklabels():
        assert label.get_window_extent().x0 >= 0


def test_the_image_is_its_table_and_shown_with_its_channels():
    table = image_table(IMAGES[0])
    assert list(table) == ["row", "column", "red", "green", "blue"]
    for row in table.sample(10, random_state=0).itertuples():
        assert [row.red, row.green, row.blue] == IMAGES[0][row.row, row.column].tolist()
    figure = draw_image(IMAGES[0])
    assert [ax.get_title("left") for ax in figure.axes] == ["image", "red", "green", "blue"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), IMAGES[0])
    np.testing.assert_array_equal(np.asarray(figure.axes[3].images[0].get_array())[..., 0], IMAGES[0][..., 2])
    assert f"red {IMAGES[0][..., 0].mean():.0f}," in image_caption(table, "train:6 (bird)")


def test_large_images_are_reduced_so_that_the_figure_keeps_its_size():
    large = IMAGES.repeat(8, axis=1).repeat(8, axis=2)
    exhibits = [show(images, LABELS, CLASSES) for images in (IMAGES, large)]
    (width, height), (of_large, high) = (exhibit.figure.get_size_inches() for exhibit in exhibits)
    assert (of_large, high) == pytest.approx((width, height), rel=0.1)
    (drawn,) = exhibits[1].figure.axes[0].images
    assert np.array_equal(drawn.get_array()[:96:3, :96:3], IMAGES[0])
    assert ["reduced to 96" in exhibit.note for exhibit in exhibits] == [False, True]
