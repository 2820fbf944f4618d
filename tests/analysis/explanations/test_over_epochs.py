import numpy as np
import pandas as pd
import pytest

from analysis.explanations.over_epochs import caption, settles, show, similar_to_last
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(0)
EPOCHS = 31


def similarity(**columns: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"epoch": range(EPOCHS), "changed": 0.1, "differs": 0.1})
    for name in ("pool1", "pool2", "fc", "filters", "pixels"):
        table[name] = columns.get(name, [0.5] * 3 + [0.95] * (EPOCHS - 3))
    return table


LATE = [0.5] * 20 + [0.95] * (EPOCHS - 20)


def test_what_is_settled_stays_above_the_threshold():
    table = similarity(pool2=[0.95] * 10 + [0.8] + [0.95] * (EPOCHS - 11))
    assert (settles(table, "pool1"), settles(table, "pool2")) == (3, 11)
    assert settles(similarity(pool1=[1.0] * EPOCHS), "pool1") == 0
    assert settles(similarity(pool1=[np.nan] * (EPOCHS - 1) + [1.0]), "pool1") == EPOCHS - 1


@pytest.mark.parametrize(
    ("late", "verdict"),
    [(("filters", "pixels"), "It is so"), (("pixels",), "It is half so"), ((), "It is not so")],
)
def test_whether_reasons_settle_later_than_layers_is_said(late: tuple[str, ...], verdict: str):
    text = caption(similarity(**dict.fromkeys(late, LATE)))
    assert text.startswith(f"{verdict} for this network and image: the first layer's maps settle at epoch 3")
    assert text.endswith(f"the pixel map at {20 if late else 3} (of 30).")


def test_layers_that_settle_late_are_not_said_to_settle_early():
    later = [0.5] * 28 + [0.95] * (EPOCHS - 28)
    text = caption(similarity(pool2=LATE, filters=later, pixels=later))
    assert text.startswith("The layers do not settle early in this network: the first layer's maps settle at epoch 3")


def test_similarity_is_the_correlation_with_the_last_row():
    rows = RNG.normal(size=(3, 20))
    rows[0] = 1.0
    expected = np.corrcoef(rows[1], rows[2])[0, 1]
    assert similar_to_last(rows)[1:] == pytest.approx([expected, 1])
    assert np.isnan(similar_to_last(rows)[0])


def test_the_figure_shows_the_largest_shares_and_is_legible():
    shares = RNG.normal(size=(EPOCHS, 40))
    table = similarity().drop(columns=["filters", "pixels"])
    exhibit = show(
        table, [0.1] * EPOCHS, shares, RNG.normal(size=(EPOCHS, 8, 8)), description="train:6", classes=("bird", "deer")
    )
    assert exhibit.figure is not None
    assert problems_on_screens(exhibit.figure) == []
    rows = [int(label.get_text()) for label in exhibit.figure.axes[1].get_yticklabels()]
    assert set(rows) == set(np.argsort(-np.abs(shares[-1]))[:16])
    assert list(shares[-1][rows]) == sorted(shares[-1][rows], reverse=True)
    assert len(exhibit.points) == 2
