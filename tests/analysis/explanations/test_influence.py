from dataclasses import replace

import numpy as np
import pytest

from analysis.explanations.influence import Influence, leading, show
from tests.support.legibility import problems_on_screens

COUNT = 40
GENERATOR = np.random.default_rng(0)
MEASURED = Influence(
    image=np.zeros((32, 32, 3), np.uint8),
    description="test:3 (bird)",
    label=1,
    known=True,
    classes=("airplane", "bird", "cat"),
    epochs=[1, 4],
    learning_rate=0.001,
    layer="second-layer maps",
    of=80,
    rows=2 * np.arange(COUNT),
    labels=np.arange(COUNT) % 3,
    images=np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (COUNT, 32, 32, 3)),
    scores=np.linspace(-1, 2, COUNT),
    similarity=np.linspace(0.9, 0, COUNT),
)


def test_the_highest_scores_lowered_the_loss_the_lowest_raised_it_and_the_largest_cosines_are_nearest():
    table = leading(MEASURED)

    members = {group: rows["image"].tolist() for group, rows in table.groupby("group")}
    assert members["lowered"] == [78, 76, 74, 72, 70, 68]
    assert members["raised"] == members["nearest"] == [0, 2, 4, 6, 8, 10]
    assert table["class"][0] == "airplane"
    assert table["score"][0] == pytest.approx(2)


def test_the_files_of_the_training_images_stand_in_the_table_where_they_are_known():
    assert "file" not in leading(MEASURED)
    table = leading(replace(MEASURED, files=[f"bird/{row}.png" for row in MEASURED.rows]))
    assert table["file"].tolist() == [f"bird/{row}.png" for row in table["image"]]


def test_the_sentences_state_epochs_sample_classes_and_what_is_not_measured_here():
    exhibit = show(MEASURED)

    assert "after epochs 1 and 4 (learning rate 0.001; 40 of 80 training images" in exhibit.text
    assert "most are 2 of class airplane, 2 of class cat and 2 of class bird" in exhibit.text
    assert exhibit.points[0].startswith("Of the 6 nearest neighbours, none are among those that lowered the loss")
    assert "6 among those that raised it most" in exhibit.points[0]
    assert "An earlier check, not repeated here, retrained 60 networks" in exhibit.points[1]


def test_the_pictures_are_those_of_the_table_and_legible_with_long_names():
    figure = show(replace(MEASURED, classes=("airplane", "b" * 60, "cat"), description="photo " * 12)).figure

    drawn = [int(image.get_array()[0, 0, 0]) for image in figure.axes[0].images]
    assert drawn == [0, 39, 38, 37, 36, 35, 34, *range(6), *range(6)]
    assert problems_on_screens(figure) == []


def test_images_that_moved_nothing_are_in_neither_row():
    exhibit = show(replace(MEASURED, scores=np.maximum(MEASURED.scores, 0), known=False))

    assert set(exhibit.table["group"]) == {"lowered", "nearest"}
    assert "and those that raised it most none" in exhibit.text
    assert "for the predicted class bird" in exhibit.text
    assert "none" in [text.get_text() for text in exhibit.figure.axes[0].texts]
