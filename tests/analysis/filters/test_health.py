import numpy as np
import pandas as pd
import pytest

from analysis.drawing.style import COLLAPSED
from analysis.filters.health import (
    caption,
    dead_filters,
    filter_health,
    from_then_on,
    removal_caption,
)
from analysis.filters.health_picture import STATES, note, state_counts
from study.probes import activity as probe

RNG = np.random.default_rng(0)
SILENT = np.array(
    [
        [False, False, False, False],
        [False, True, True, True],
        [True, True, False, False],
        [False, True, False, True],
        [True, True, True, True],
    ]
)
"""By filter and epoch: alive, dead from 1, came back, back and dead again, never alive."""


def health(
    silent: np.ndarray, *, size: float = 0.1, collapsed: int | None = None, layer: str = "conv2"
) -> pd.DataFrame:
    """The table of one layer with these silences (filters, epochs); from the last epoch on one filter is collapsed."""
    filters, epochs = silent.shape
    weights = {epoch: RNG.uniform(size / 2, size, (filters, 3, 5, 5)) for epoch in range(epochs)}
    if collapsed is not None:
        weights[epochs - 1][collapsed] = -COLLAPSED / 2
    activity = {
        epoch: {
            "active_images": np.where(silent[:, epoch], 0.0, 0.9),
            "active_positions": np.where(silent[:, epoch], 0.0, 0.2),
            "silent": silent[:, epoch],
        }
        for epoch in range(epochs)
    }
    return filter_health({layer: weights}, {layer: activity})


def test_every_filter_has_a_row_for_every_epoch_with_its_largest_weight():
    weights = {"conv1": {1: RNG.normal(size=(2, 3, 5, 5)), 0: RNG.normal(size=(2, 3, 5, 5))}}
    shares = {
        "active_images": np.array([1.0, 0.5]),
        "active_positions": np.array([0.5, 0.1]),
        "silent": np.zeros(2, bool),
    }
    table = filter_health(weights, {"conv1": {0: shares, 1: shares}})
    assert table["epoch"].tolist() == [0, 0, 1, 1]
    for row in table.itertuples():
        assert row.largest_weight == np.abs(weights["conv1"][row.epoch][row.filter]).max()
    assert table["active_images"].tolist() == [1.0, 0.5, 1.0, 0.5]
    assert table["died"].isna().all()


def test_a_filter_died_at_the_first_epoch_from_which_it_is_silent_to_the_end():
    died = health(SILENT).groupby("filter")["died"].first()
    assert died.isna().tolist() == [True, False, True, False, False]
    assert died.dropna().tolist() == [1, 3, 0]


def test_from_then_on_speaks_in_epochs_not_in_places():
    holds = np.array([[True, False, True], [False, True, True], [True, True, False]])
    assert from_then_on(holds, np.array([0, 10, 30])).tolist() == [30, 10, pd.NA]


def test_states_tell_silent_from_collapsed():
    table = health(SILENT, collapsed=0)
    last = table[table["epoch"] == 3].set_index("filter")["state"]
    assert last.tolist() == ["collapsed", "silent", "active", "silent", "silent"]
    assert dead_filters(table)["conv2"].tolist() == [0, 1, 3, 4]
    assert health(SILENT, collapsed=1).query("filter == 1 and epoch == 3")["state"].tolist() == ["silent and collapsed"]


def test_the_states_of_an_epoch_add_up_to_all_filters():
    counts = state_counts(pd.concat([health(SILENT, collapsed=1, layer="conv2"), health(SILENT[:2], layer="conv1")]))
    assert counts["layer"].tolist() == ["conv2"] * 4 + ["conv1"] * 4
    assert counts[list(STATES)].sum(axis=1).tolist() == [5] * 4 + [2] * 4
    assert counts.iloc[3][list(STATES)].tolist() == [2, 0, 2, 1]


def test_the_caption_counts_the_silent_and_when_they_died():
    assert caption(health(SILENT, collapsed=1), 10_000) == (
        "At epoch 3, of 10,000 test images: 3 of conv2's 5 filters are silent on every one (1 of them collapsed,"
        " max |w| < 0.001), since epochs 0 to 3 (median 1), and 2 were active again for some epochs after being"
        " silent (1 of them at the end) and 1 collapsed at some epoch."
    )
    assert "3 of conv2's 5 filters" in caption(health(SILENT, collapsed=0), 7)
    assert "1 more collapsed without being silent" in caption(health(SILENT, collapsed=0), 7)


def test_the_caption_of_a_healthy_layer_is_short():
    assert caption(health(np.zeros((2, 2), bool)), 40) == (
        "At epoch 1, of 40 test images: 0 of conv2's 2 filters are silent on every one."
    )


def test_removal_says_what_is_left():
    sizes = {"parameters": 94_666, "parameters_without": 30_000}
    text = removal_caption(filters=41, accuracy=0.6861, accuracy_without=0.686, **sizes)
    assert "all 41 dead" in text
    assert "68.60%, against 68.61%" in text
    assert "30,000 of 94,666 parameters" in text
    assert removal_caption(filters=1, accuracy=0.5, accuracy_without=0.5, **sizes).startswith(
        "With the map of the one dead (silent or collapsed) filter set to zero, as a silent one's is anyway, the test"
        " accuracy is 50.00%, against 50.00% with it; "
    )
    assert "None is dead" in removal_caption(filters=0, accuracy=0.7, accuracy_without=0.7, **sizes)


def test_units_are_not_called_filters_and_no_star_is_explained_where_there_is_none():
    text = removal_caption(
        filters=3, accuracy=0.5, accuracy_without=0.5, parameters=90, parameters_without=80, what="units"
    )
    assert text.startswith(
        "With all 3 dead (silent or collapsed) units set to zero, as a silent one is anyway, the test"
    )
    table = health(SILENT, collapsed=1, layer="fc1")
    assert note(table, {}).startswith("In the panels of states a row is a unit. Where weights come near zero, their")
    assert "; a star marks those followed above" in note(health(SILENT), {"conv2": [12]})
    assert "filter" not in text + note(table, {})


def test_filters_that_are_dead_again_at_the_end_are_not_said_to_have_recovered():
    flickering = np.array([[True, False, True], [True, False, True], [True, True, False], [False, False, False]])
    assert caption(health(flickering), 10).endswith(
        ", and 3 were active again for some epochs after being silent (1 of them at the end)."
    )
    assert "0 of them at the end" in caption(health(flickering[:2]), 10)
    assert "and 1 was active again for some epochs after being silent (not at the end)." in caption(
        health(flickering[:1]), 10
    )
    assert "1 was active again for some epochs after being silent (also at the end)." in caption(
        health(flickering[2:]), 10
    )


def test_weights_that_grew_again_are_told_from_those_that_did_so_while_silent():
    table = health(np.array([[True, True, True], [False, False, False], [True, True, True]]))
    table["collapsed"] = (table["filter"] < 2) & (table["epoch"] == 1) | (table["filter"] == 2)
    assert caption(table, 10).endswith(
        ", and 3 collapsed at some epoch (2 of which grew weights again, 1 while silent)."
    )


def test_collapsed_means_the_same_in_an_experiment_and_in_the_analysis():
    assert COLLAPSED == probe.COLLAPSED


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("dead", [True, False])
def test_all_dead_none_dead_and_one_epoch_are_counted(epochs: int, dead: bool):
    table = health(np.full((3, epochs), dead), size=0.0 if dead else 0.1)
    assert (len(dead_filters(table)["conv2"]) == 3) is dead
    assert caption(table, 10).startswith(f"At epoch {epochs - 1}, of 10 test images: {3 if dead else 0} of conv2's 3")
