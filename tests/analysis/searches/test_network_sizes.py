import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from analysis.searches import network_sizes
from tests.support.legibility import problems_on_screens


def retrained(*networks: tuple[str, int, bool, tuple[float, ...]]) -> pd.DataFrame:
    rows = [
        (model, f"pooling size {place}", "learning rate 0.001", parameters, 20, place, "cnn", is_report, seed, accuracy)
        for place, (model, parameters, is_report, accuracies) in enumerate(networks)
        for seed, accuracy in enumerate(accuracies)
    ]
    return pd.DataFrame(rows, columns=[*network_sizes.OF_NETWORK, "seed", "test_accuracy"])


RETRAINED = retrained(
    ("cnn", 94_666, True, (0.73, 0.74, 0.72)),
    ("cnn", 20_000, False, (0.70, 0.72, 0.71)),
    ("cnn", 60_000, False, (0.76, 0.76, 0.76)),
    ("cnn", 40_000, False, (0.74,)),
    ("ffnn", 308_310, False, (0.54, 0.55)),
)


def test_networks_are_means_over_seeds_from_the_smallest():
    table = network_sizes.networks(RETRAINED.sample(frac=1, random_state=0))
    assert table["parameters"].tolist() == [20_000, 40_000, 60_000, 94_666, 308_310]
    assert table["number"].tolist() == [1, 2, 3, 4, 5]
    assert table["seeds"].tolist() == [3, 1, 3, 3, 2]
    np.testing.assert_allclose(table["test_accuracy_mean"], [0.71, 0.74, 0.76, 0.73, 0.545])
    np.testing.assert_allclose(table["test_accuracy_sd"], [0.01, np.nan, 0, 0.01, 0.005 * 2**0.5], atol=1e-12)


def test_the_caption_names_the_best_and_the_smallest_that_reaches_the_report():
    assert network_sizes.caption(network_sizes.networks(RETRAINED)) == (
        "Of the networks with at most the report's 94,666 parameters (73.0 ± 1.0%, n = 3), network 3 with 60,000 "
        "parameters (76.0 ± 0.0%, n = 3) has the highest mean test accuracy; the smallest that reaches the report's is "
        "network 2 with 40,000 parameters (74.0%, n = 1)."
    )


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (
            [("cnn", 94_666, True, (0.73,)), ("cnn", 20_000, False, (0.70,)), ("cnn", 200_000, False, (0.8,))],
            "No network with at most as many parameters is better than the report's, network 2 with 94,666 parameters "
            "(73.0%, n = 1).",
        ),
        (
            [("cnn", 94_666, True, (0.73,)), ("cnn", 20_000, False, (0.75,)), ("cnn", 20_000, False, (0.74,))],
            "Of the networks with at most the report's 94,666 parameters (73.0%, n = 1), network 2 with 20,000 "
            "parameters (75.0%, n = 1) has the highest mean test accuracy; no smaller one reaches the report's.",
        ),
        (
            [("cnn", 20_000, False, (0.75,)), ("cnn", 10_000, False, (0.70,))],
            "Network 2 with 20,000 parameters (75.0%, n = 1) has the highest mean test accuracy; the report's network "
            "was not retrained.",
        ),
    ],
)
def test_captions_without_a_better_or_a_smaller_one_or_the_report(
    networks: list[tuple[str, int, bool, tuple[float, ...]]], expected: str
):
    assert network_sizes.caption(network_sizes.networks(retrained(*networks))) == expected


def test_networks_of_one_size_are_not_shown():
    assert network_sizes.is_shown(RETRAINED, "cnn")
    assert not network_sizes.is_shown(RETRAINED, "ffnn")
    assert not network_sizes.is_shown(RETRAINED.iloc[:0], "cnn")


def test_the_figure_shows_each_seed_the_means_by_number_and_a_ring_around_the_report():
    table = network_sizes.networks(RETRAINED)
    figure = network_sizes.draw(table, RETRAINED)
    [ax] = figure.axes
    *seeds, ring = [np.asarray(marks.get_offsets()) for marks in ax.collections if isinstance(marks, PathCollection)]
    assert sum(map(len, seeds)) == len(RETRAINED)
    assert ring.tolist() == [[94_666, pytest.approx(73)]]
    places = {text.get_text(): (text.xy[0], round(text.xy[1], 6)) for text in ax.texts}  # type: ignore[attr-defined]
    assert places == {
        str(row["number"]): (row["parameters"], round(100 * row["test_accuracy_mean"], 6))
        for row in table.to_dict("records")
    }
    assert problems_on_screens(figure) == []
