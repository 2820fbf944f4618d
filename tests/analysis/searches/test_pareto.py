import numpy as np
import pandas as pd
import pytest

from analysis.searches import pareto
from analysis.searches.pareto import Reference
from tests.support.legibility import problems_on_screens

TRIALS = pd.DataFrame(
    [
        (0, "complete", 1000, 0.50, 10),
        (1, "complete", 500, 0.40, 10),
        (2, "complete", 2000, 0.45, 10),
        (3, "pruned", 600, 0.90, 3),
        (4, "complete", 4000, 0.70, 10),
        (5, "complete", 4000, 0.65, 10),
        (6, "diverged", 100, np.nan, 1),
        (7, "complete", 8000, 0.70, 10),
        (8, "complete", np.nan, 0.95, 10),
    ],
    columns=["number", "state", "parameters", "val_accuracy", "epochs"],
).assign(learning_rate=1e-3, weight_decay=1e-4)


def dominated(row: pd.Series, others: pd.DataFrame) -> bool:
    """The definition: some other trial is no worse in both, and better in one."""
    no_worse = others[(others["parameters"] <= row["parameters"]) & (others["val_accuracy"] >= row["val_accuracy"])]
    return bool(((no_worse["parameters"] < row["parameters"]) | (no_worse["val_accuracy"] > row["val_accuracy"])).any())


def test_the_front_holds_the_complete_trials_that_none_dominates():
    table = pareto.front(TRIALS.sample(frac=1, random_state=1))
    assert table.loc[table["on_front"], "number"].tolist() == [1, 0, 4]
    # A trial whose number of parameters is unknown has no place on it.
    assert 8 not in table["number"].tolist()


def test_the_front_is_that_of_the_definition_for_many_random_trials():
    generator = np.random.default_rng(0)
    trials = pd.DataFrame(
        {
            "number": range(300),
            "state": "complete",
            "parameters": generator.integers(10, 200, 300),
        }
    )
    # Larger ones are better on the whole, so that the front has many.
    trials["val_accuracy"] = (trials["parameters"] / 400 + generator.random(300) / 2).round(2)
    table = pareto.front(trials)
    expected = [not dominated(row, table) for _, row in table.iterrows()]
    # Of trials that are equal in both, one stands for all.
    table["expected"] = expected
    first = ~table.duplicated(["parameters", "val_accuracy"])
    assert table["on_front"].tolist() == (table["expected"] & first).tolist()
    assert 3 < table["on_front"].sum() < 100


def test_networks_of_one_size_have_no_front_to_show():
    assert pareto.is_shown(TRIALS)
    assert not pareto.is_shown(TRIALS.assign(parameters=94_666))
    assert not pareto.is_shown(TRIALS.assign(parameters=np.nan))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (Reference(94_666), "the best with at most the report's 94,666 parameters has 4,000, and 70.0%."),
        (Reference(400), "none has at most the report's 400 parameters."),
        (Reference(94_666, 0.45), "reaches the 45.0% of the report's 94,666 parameters has 1,000 (50.0%, trial 0)."),
        (Reference(94_666, 0.8), "none reaches the 80.0% of the report's 94,666 parameters."),
    ],
)
def test_the_caption_compares_with_the_reports_network(reference: Reference, expected: str):
    text = pareto.caption(pareto.front(TRIALS), reference)
    assert text.startswith("The front has 3 networks, from 500 parameters (40.0%, trial 1) to 4,000 parameters (70.0%")
    assert text.endswith(expected)


def test_the_figure_has_the_front_and_the_reports_network_on_a_logarithmic_axis():
    ax = pareto.draw(pareto.front(TRIALS), Reference(94_666, 0.6)).axes[0]
    step, line = ax.lines
    assert step.get_xdata().tolist() == [500, 1000, 4000]
    assert step.get_ydata().tolist() == pytest.approx([40, 50, 70])
    assert (step.get_marker(), step.get_markersize()) == ("o", 9), "each network on the front is ringed"
    assert set(line.get_xdata()) == {94_666}
    assert ax.get_xscale() == "log"
    assert np.asarray(ax.collections[-1].get_offsets()).tolist() == [[94_666, pytest.approx(60)]]
    assert problems_on_screens(ax.figure) == []
    labels = {label.get_text() for label in ax.get_xticklabels()}
    assert {"1,000", "100,000"} <= labels


def test_a_search_without_a_complete_trial_has_no_front():
    trials = TRIALS.assign(state="diverged", val_accuracy=np.nan)
    table = pareto.front(trials)
    assert not table["on_front"].any()
    assert "no Pareto front" in pareto.caption(table, Reference(94_666))
    pareto.show(trials, Reference(94_666))
