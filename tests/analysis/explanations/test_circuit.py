from dataclasses import replace

import numpy as np
import pytest
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from analysis.drawing.screens import narrow_version
from analysis.explanations import circuit
from analysis.explanations.decision import MOST, Decision
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(0)


def decision(classes: int = 4, filters: tuple[int, int] = (8, 9)) -> Decision:
    """Class 1 over class 2: every division sums to the same number."""
    against = {}
    for layer, count in zip(("conv1", "conv2"), filters, strict=True):
        shares = RNG.normal(size=(classes, count))
        shares[1] = 0
        shares[:, -1] = 0  # a silent filter
        shares[2, 0] += 1.5 - shares[2].sum()
        against[layer] = shares
    return Decision(
        image=RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8),
        description="test:3 (b)",
        classes=[*"abcdefghijklmnop"][:classes],
        chosen=1,
        rival=2,
        probabilities=np.full(classes, 1 / classes),
        margin=1.0,
        mean_margin=-0.5,
        background=100,
        pixels=np.full((32, 32), 1.5 / 1024),
        places={layer: against[layer][2][:, None, None] * np.full((1, 4, 4), 1 / 16) for layer in ("conv1", "conv2")},
        against=against,
        links=np.outer(against["conv1"][2], against["conv2"][2]) / 1.5,
        kernels={
            "conv1": RNG.normal(size=(filters[0], 3, 5, 5)),
            "conv2": RNG.normal(size=(filters[1], filters[0], 5, 5)),
        },
    )


def test_table_has_each_filter_against_each_class_and_the_rival_first():
    example = decision()

    table = circuit.shares_table(example)

    assert len(table) == (8 + 9) * 3
    assert table["against"][0] == "c"
    assert table.groupby(["layer", "against"])["share"].sum()["conv1", "c"] == pytest.approx(1.5)
    row = table[(table["layer"] == "conv2") & (table["filter"] == 4) & (table["against"] == "a")]
    assert row["share"].item() == example.against["conv2"][0, 4]
    assert circuit.links_table(example)["share"].sum() == pytest.approx(1.5)
    assert circuit.pixels_table(example)["share"].sum() == pytest.approx(1.5)


def test_leading_filters_have_the_largest_shares_from_most_for_to_most_against():
    example = decision()
    shares = example.shares("conv2")

    leading = example.leading("conv2")

    assert len(leading) == MOST
    assert list(shares[leading]) == sorted(shares[leading], reverse=True)
    assert np.abs(shares[leading]).min() >= np.abs(np.delete(shares, leading)).max()


def test_caption_states_margin_mean_and_difference():
    caption = circuit.caption(decision())

    assert "is +1.00 logits, −0.50 on average over 100 training images" in caption
    assert "of the difference, +1.50, filter" in caption


def test_a_caption_of_one_filter_that_counts_names_it_once():
    example = decision()
    alone = {layer: values * (np.arange(values.shape[1]) == 3) for layer, values in example.against.items()}
    caption = circuit.caption(replace(example, against=alone))
    assert caption.count("filter 3") == 1
    assert " and filter" not in caption


def test_a_filter_is_only_said_to_speak_against_the_class_where_its_share_is_negative():
    example = decision()
    for_it = {layer: np.abs(values) for layer, values in example.against.items()}
    assert circuit.caption(replace(example, against=for_it)).count("filter ") == 1
    against = {layer: -values for layer, values in for_it.items()}
    caption = circuit.caption(replace(example, against=against))
    least = int(against["conv2"][2].argmin())
    assert f"filter {least} of the second layer contributes −" in caption
    assert caption.count("filter ") == 1


def test_shares_that_are_written_as_zero_are_not_said_to_depend_on_the_rival():
    example = decision()
    shares = {layer: np.abs(values) for layer, values in example.against.items()}
    shares["conv2"][:, 5] = [0.9, 0.0, 1.0, -0.004]
    assert not any("depends on the rival" in point for point in circuit.points(replace(example, against=shares)))
    shares["conv2"][3, 5] = -0.006
    assert any("−0.01 against d" in point for point in circuit.points(replace(example, against=shares)))


def test_points_name_filters_without_a_share_and_the_filter_whose_sign_depends_on_the_rival():
    example = decision()
    example.against["conv2"][:, 5] = [9.0, 0.0, 1.0, -8.0]

    points = circuit.points(example)

    assert "filter 5 of conv2 gives b +9.00 against a and −8.00 against d." in " ".join(points)
    assert "1 of the 9 second-layer filters contributes exactly 0, whatever the rival." in points


def test_waterfall_runs_from_the_mean_margin_to_the_margin():
    figure = circuit.draw(decision())

    [waterfall] = [ax for ax in figure.axes if ax.get_ylabel() == "margin (logits)"]
    bars = waterfall.patches
    assert bars[0].get_height() == -0.5
    assert bars[-1].get_height() == 1.0
    inner = sum(bar.get_height() for bar in bars[1:-1])
    assert inner == pytest.approx(1.5)
    assert bars[-2].get_y() + bars[-2].get_height() == pytest.approx(1.0)


def test_a_network_of_silent_filters_and_one_of_many_classes_can_be_drawn():
    silent = decision()
    zero = replace(
        silent,
        against={layer: values * 0 for layer, values in silent.against.items()},
        places={layer: values * 0 for layer, values in silent.places.items()},
        links=silent.links * 0,
        pixels=silent.pixels * 0,
    )

    exhibit = circuit.show(zero)

    assert problems_on_screens(exhibit.figure) == []
    assert "no filter of the second layer makes a difference" in exhibit.text
    assert problems_on_screens(circuit.show(decision(classes=16)).figure) == []


def test_a_narrow_screen_has_the_same_bars_and_links_below_each_other():
    wide = circuit.draw(decision())
    narrow = narrow_version(wide)
    assert narrow is not None
    (tall,) = [ax for ax in narrow.axes if ax.get_xlabel() == "margin (logits)"]
    (broad,) = [ax for ax in wide.axes if ax.get_ylabel() == "margin (logits)"]
    assert [bar.get_width() for bar in tall.patches] == [bar.get_height() for bar in broad.patches]
    bands = [
        sorted(patch.get_linewidth() for patch in figure.axes[0].patches if isinstance(patch, PathPatch))
        for figure in (wide, narrow)
    ]
    assert len(bands[0]) == 36
    assert bands[0] == bands[1]
    assert problems_on_screens(wide) == []


def test_long_names_are_cut_at_their_ends():
    classes = ["ship", "Vögel", "Frösche & Kröten", "rote Autos"]
    figure = circuit.draw(replace(decision(), classes=classes, description="train image 0 (Frösche & Kröten)"))
    cut = {text.get_text() for text in figure.findobj(Text) if "…" in text.get_text()}
    assert cut == {"Frösche &…", "train image 0 (Frösche…"}
