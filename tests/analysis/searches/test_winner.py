import numpy as np
import pandas as pd
import pytest

from analysis.searches import winner
from tests.support.legibility import problems_on_screens


def replicates(*accuracies: tuple[float, ...]) -> pd.DataFrame:
    """Trials 7, 2 and 11, in the order of their search."""
    return pd.DataFrame(
        {
            "trial": trial,
            "learning_rate": 1e-3 * (place + 1),
            "weight_decay": 1e-4,
            "searched": 0.72 - 0.01 * place,
            "seed": seed,
            "val_accuracy": accuracy,
        }
        for place, (trial, values) in enumerate(zip((7, 2, 11), accuracies, strict=False))
        for seed, accuracy in enumerate(values)
    )


CLEAR = replicates((0.70, 0.71, 0.72), (0.60, 0.611, 0.62), (0.5, 0.51, 0.521))
TIED = replicates((0.70, 0.71, 0.72), (0.71, 0.70, 0.725), (0.69, 0.72, 0.70))
BEATEN = replicates((0.60, 0.61, 0.62), (0.70, 0.711, 0.72))


def test_the_ranking_has_means_deviations_and_the_winners_lead():
    table = winner.ranking(CLEAR)
    assert table["trial"].tolist() == [7, 2, 11]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["val_accuracy_sd"][0] == pytest.approx(np.std([0.70, 0.71, 0.72], ddof=1))
    assert table["difference"].tolist()[1:] == pytest.approx([0.71 - 1.831 / 3, 0.71 - 1.531 / 3])
    assert np.isnan(table["difference"][0])


@pytest.mark.parametrize(
    ("trainings", "words"),
    [
        (
            CLEAR,
            (
                "71.00 ± 1.00%",
                "(72.00% in the search)",
                "highest mean is its own",
                "the search's winner is confirmed.",
                "over trial 2, in points: +9.97 [+9.82, +10.11], zero is outside.",
            ),
        ),
        (TIED, ("], zero is inside.", "do not settle which is best")),
        (BEATEN, ("highest mean is that of trial 2", "trial 2 is better than the search's winner.")),
        (replicates((0.7,), (0.6,)), ("1 other seed ", "fewer than 3 seeds are no test")),
        (replicates((np.nan,) * 3, (0.6,) * 3), ("trial 7, diverged",)),
        (replicates((0.70, 0.71, 0.72), (np.nan,) * 3), ("over trial 2, in points: not known, as that diverged",)),
    ],
)
def test_the_caption_says_what_the_numbers_say(trainings: pd.DataFrame, words: tuple[str, ...]):
    table = winner.ranking(trainings)
    text = "\n".join([winner.caption(table), *winner.points(table)])
    assert "nan" not in text
    assert text.count("no test") <= 1
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "trainings",
    [CLEAR, replicates((0.7,), (0.6,)), replicates((np.nan,) * 3, (0.6,) * 3)],
    ids=["clear", "one", "lost"],
)
def test_every_training_and_what_the_search_had_are_drawn(trainings: pd.DataFrame):
    figure = winner.draw(winner.ranking(trainings), trainings)
    assert problems_on_screens(figure) == []
    (ax,) = figure.axes
    drawn = {round(float(x), 6) for marks in ax.collections for x, _ in np.asarray(marks.get_offsets(), float)}
    expected = {*(100 * trainings["val_accuracy"].dropna()).round(6), *(100 * trainings["searched"]).round(6)}
    assert expected <= drawn
    assert ax.get_yticklabels()[0].get_text() == "trial 7: learning rate 0.001,\nweight decay 0.0001"
