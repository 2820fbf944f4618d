import numpy as np
import pandas as pd
import pytest

from analysis.searches import recipe
from tests.support.legibility import problems_on_screens


def replicates(**accuracies: tuple[float, ...]) -> pd.DataFrame:
    """The trainings of conditions with these last accuracies by seed; each had a better epoch before."""
    return pd.DataFrame(
        [
            {
                "condition": name.replace("_", " "),
                "epochs": 30,
                "seed": seed,
                "val_accuracy": accuracy,
                "best_val_accuracy": accuracy + 0.01,
            }
            for name, values in accuracies.items()
            for seed, accuracy in enumerate(values)
        ]
    )


BASE = (0.70, 0.71, 0.72)
HIGHER, LOWER, SAME = (0.72, 0.731, 0.74), (0.60, 0.61, 0.621), (0.69, 0.72, 0.72)
CLEAR = replicates(trial_3=BASE, cosine=HIGHER, AdamW=LOWER, warm_up=SAME)


def test_the_differences_are_paired_by_seed():
    table = recipe.effects(CLEAR)
    assert table["condition"].tolist() == ["trial 3", "cosine", "AdamW", "warm up"]
    assert table["val_accuracy_mean"].tolist() == pytest.approx([0.71, 0.730333, 0.610333, 0.71], abs=1e-5)
    assert table["best_val_accuracy_mean"][0] == pytest.approx(0.72)
    assert table["difference"].tolist() == pytest.approx([np.nan, 0.020333, -0.099667, 0], nan_ok=True, abs=1e-5)
    # Differences of 0.02, 0.021 and 0.02; t(2; 0.975) = 4.3027.
    half = 4.302653 * np.std([0.02, 0.021, 0.02], ddof=1) / np.sqrt(3)
    assert table["high"][1] - table["difference"][1] == pytest.approx(half, rel=1e-4)


def test_the_seeds_are_matched_whatever_their_order():
    shuffled = pd.concat([CLEAR[:3], CLEAR[3:].sample(frac=1, random_state=0)])
    assert recipe.effects(shuffled).set_index("condition")["difference"].to_dict() == pytest.approx(
        recipe.effects(CLEAR).set_index("condition")["difference"].to_dict(), nan_ok=True
    )


def test_the_caption_tells_what_raises_what_lowers_and_what_is_unclear():
    assert recipe.caption(recipe.effects(CLEAR)) == (
        "trial 3 ends at a validation accuracy of 71.00 ± 1.00% (3 seeds): higher is that with cosine; lower that with "
        "AdamW; 1 change does not differ clearly."
    )
    assert recipe.points(recipe.effects(CLEAR))[-1].startswith("AdamW: −9.97 [")
    assert recipe.points(recipe.effects(CLEAR))[1].endswith("which may be nothing.")


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        (replicates(trial_3=BASE, warm_up=SAME, decay=SAME), "no change raises it; 2 changes do not differ clearly."),
        (replicates(trial_3=BASE[:2], cosine=HIGHER[:2]), "fewer than 3 seeds are no test."),
        (replicates(trial_3=(np.nan,) * 3, cosine=HIGHER), "Every training of trial 3, which the others"),
        (replicates(trial_3=BASE, decay=(np.nan,) * 3), "fewer than 3 seeds are no test."),
    ],
    ids=["nothing", "few", "lost", "others lost"],
)
def test_the_caption_claims_no_more_than_was_measured(trainings: pd.DataFrame, said: str):
    table = recipe.effects(trainings)
    text = recipe.caption(table)
    assert said in text
    assert "\n".join([text, *recipe.points(table)]).count("no test") == text.count("no test") <= 1
    assert "nan" not in "".join([text, *recipe.points(table), recipe.readable(table).to_string()]).lower()


@pytest.mark.parametrize("trainings", [CLEAR, replicates(trial_3=BASE, decay=(np.nan,) * 3)], ids=["clear", "lost"])
def test_every_training_is_drawn(trainings: pd.DataFrame):
    figure = recipe.draw(recipe.effects(trainings), trainings)
    assert problems_on_screens(figure) == []
    left, right = figure.axes
    drawn = {round(float(x), 6) for marks in left.collections for x, _ in np.asarray(marks.get_offsets(), float)}
    assert {*(100 * trainings["val_accuracy"].dropna()).round(6)} <= drawn
    assert [label.get_text() for label in left.get_yticklabels()] == list(dict.fromkeys(trainings["condition"]))
    assert right.get_xlabel() == "difference from the first, by seed (points)"
