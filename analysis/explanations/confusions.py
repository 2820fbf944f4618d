"""Which second-layer filters make the network confuse two classes: their exact shares in the mean margin."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import is_narrow, panels
from analysis.drawing.wording import counted, listed, number, quoted, signed, without_middle
from analysis.exhibit import Exhibit
from analysis.results import leads

PAIRS = 3
"""Number of confusions shown: the most frequent, one for each pair of classes."""
LACKING = 3
"""Filters named in the sentence on a confusion."""
MOST = 10
"""Filters shown for each confusion."""
NARROW_LINE = 34
"""Characters in a line of a panel's title on a narrow screen."""
LONGEST = 20
"""Characters of a class's name in such a title, which holds four of them."""
CONFIDENCE = 1.96
"""Standard errors on either side of a mean: 95 %."""
COLOURS = ("#1b7837", "#e66101", "#762a83")
NOTE = (
    "Exact: the last layer is linear in the second layer's maps, so that a filter's shares in the two logits sum, over "
    "filters, to the margin less its mean over the background images. Bars: means over the test images of a group, "
    "with 95% intervals (1.96 standard errors), as after ± in the sentences. Filters: those in which the mistaken "
    f"images differ most from those of their class that are recognised. {leads.NOTE}"
)


def show(shares: np.ndarray, predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Exhibit:
    """The most frequent confusions.

    Args:
        shares: (N, filters, classes), exact shares of the second layer's filters in the logits of each test image.
        predicted: (N,), class numbers.
        labels: (N,), class numbers.
        classes: the names.
    """
    table = confusions(shares, predicted, labels, classes)
    heading = "Which filters make the network confuse two classes?"
    if table.empty:
        return Exhibit("confusions_by_filter", heading, "No test image is classified wrongly.", table)
    return Exhibit("confusions_by_filter", heading, caption(table), table, draw(table), points=points(table), note=NOTE)


def most_frequent(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[tuple[int, int]]:
    """The most frequent confusions (true, called), of each pair of classes the more frequent one; `PAIRS` at most."""
    counts = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    np.fill_diagonal(counts, 0)
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(-counts, axis=None, kind="stable"):
        true, called = divmod(int(place), classes)
        if counts[true, called] and (called, true) not in pairs:
            pairs.append((true, called))
    return pairs[:PAIRS]


def confusions(shares: np.ndarray, predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """The mean shares of each filter in the margins of the images of a group, a row a filter.

    Returns:
        true, called, group (e.g. ``cat called dog``), images, filter, share (mean), error (standard error), sum (over
        filters); lowest, of the mistaken images: the share of bootstrap resamples in which no filter's mean share is
        further below that of the recognised images, see `leads`; NaN for other groups, or if none is recognised.
    """
    parts = []
    for true, called in most_frequent(predicted, labels, len(classes)):
        margins = shares[:, :, true].astype(np.float64) - shares[:, :, called]
        recognised = margins[(labels == true) & (predicted == true)]
        for label, answer in ((true, true), (true, called), (called, called)):
            rows = margins[(labels == label) & (predicted == answer)]
            if not len(rows):
                continue
            spread = rows.std(axis=0, ddof=1) if len(rows) > 1 else np.full(rows.shape[1], np.nan)
            parts.append(
                pd.DataFrame(
                    {
                        "true": classes[true],
                        "called": classes[called],
                        "group": f"{classes[label]} called {classes[answer]}",
                        "images": len(rows),
                        "filter": np.arange(rows.shape[1]),
                        "share": rows.mean(axis=0),
                        "error": spread / np.sqrt(len(rows)),
                        "sum": rows.sum(axis=1).mean(),
                        "lowest": _lowest(rows, recognised) if label != answer and len(recognised) else np.nan,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _lowest(mistaken: np.ndarray, recognised: np.ndarray) -> np.ndarray:
    """In which share of resamples a filter's mean margin, from (N, filters), falls furthest below the recognised's."""
    groups = np.repeat([0, 1], [len(mistaken), len(recognised)])
    # The size of a group is the same in every resample, so that the difference of means is one sum.
    falls = np.concatenate([-mistaken / len(mistaken), recognised / len(recognised)])
    return leads.lead_shares(leads.sums(groups, falls))


def _lacking(part: pd.DataFrame) -> pd.DataFrame:
    """How the mistaken images of one confusion differ from those recognised, by filter: difference, error.

    The filters of which they have least come first. Where none is recognised, the difference is from the mean.
    """
    true, called = part["true"].iloc[0], part["called"].iloc[0]
    groups = part.set_index(["group", "filter"])[["share", "error"]]
    mistaken = groups.loc[f"{true} called {called}"]
    recognised = f"{true} called {true}"
    known = groups.loc[recognised] if recognised in groups.index else 0 * mistaken
    table = pd.DataFrame(
        {"difference": mistaken["share"] - known["share"], "error": np.hypot(mistaken["error"], known["error"])}
    )
    return table.sort_values("difference", kind="stable")


def _pairs(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [part for _, part in table.groupby(["true", "called"], sort=False)]


def caption(table: pd.DataFrame) -> str:
    """One sentence on the most frequent confusion."""
    return _sentence(_pairs(table)[0])


def points(table: pd.DataFrame) -> list[str]:
    """One sentence for each of the other confusions."""
    return [_sentence(part) for part in _pairs(table)[1:]]


def _sentence(part: pd.DataFrame) -> str:
    true, called, lacking = part["true"].iloc[0], part["called"].iloc[0], _lacking(part)
    [row] = part[part["group"] == f"{true} called {called}"].drop_duplicates("group").to_dict("records")
    is_recognised = f"{true} called {true}" in set(part["group"])
    true, called, images = quoted(true), quoted(called), counted(int(row["images"]), "image")
    their, share = ("its", "share") if row["images"] == 1 else ("their", "mean share")
    beginning = (
        f"{images} of {true} called {called}: {their} margin of {true} over {called} is {signed(row['sum'])} logits "
        "from the mean"
    )
    if not is_recognised:
        return f"{beginning}; no image of {true} is recognised."
    less = lacking[lacking["difference"] < 0].iloc[:LACKING]
    if less.empty:
        return f"{beginning}; in no filter is {their} {share} below that of those recognised."
    falls = f"{beginning}; {their} {share} falls furthest below that of those recognised in"
    if row["images"] == 1:
        # Resamples of a single image are all alike.
        named = listed([f"filter {filter} ({_difference(*numbers)})" for filter, *numbers in less.itertuples()])
        return f"{falls} {named}, as far as one image tells."
    shares = part.dropna(subset=["lowest"]).set_index("filter")["lowest"]
    places = leads.tied(shares.to_numpy(), np.flatnonzero(shares.index == less.index[0]).tolist())
    also = [int(shares.index[place]) for place in places]
    untied = less.drop(index=[filter for filter in also if filter in less.index])
    first, *others = (f"filter {filter} ({_difference(*numbers)})" for filter, *numbers in untied.itertuples())
    return (
        f"{falls} {first}"
        f"{leads.tie_clause(list(map(str, also)), 'filter')}{'; next: ' if others else ''}{listed(others)}."
    )


def _difference(difference: float, error: float) -> str:
    """A difference with the half of its 95% interval, which one image alone does not give."""
    return signed(difference) if np.isnan(error) else f"{signed(difference)} ± {number(CONFIDENCE * error, 2)}"


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each confusion: bars of three groups for the filters that differ most."""
    parts = _pairs(table)
    figure, axes = panels(style.WIDTH, (3.4 if is_narrow() else 2.7) * len(parts), len(parts))
    for ax, part in zip(axes[:, 0], parts, strict=True):
        lacking = _lacking(part)
        sizes = lacking["difference"].abs().sort_values(ascending=False, kind="stable")
        # In the order of the differences.
        chosen = lacking.loc[lacking.index.isin(sizes.index[:MOST])]
        groups = part.groupby("group", sort=False)
        width = 0.8 / len(groups)
        for place, ((name, rows), colour) in enumerate(zip(groups, COLOURS, strict=False)):
            shown = rows.set_index("filter").loc[chosen.index]
            label = (
                f"{without_middle(str(name), 40)} ({int(rows['images'].iloc[0])}): sum {signed(rows['sum'].iloc[0])}"
            )
            places = np.arange(len(shown)) + (place - (len(groups) - 1) / 2) * width
            errors = CONFIDENCE * shown["error"].fillna(0)
            ax.bar(places, shown["share"], width, color=colour, yerr=errors, error_kw={"linewidth": 0.8}, label=label)
        ax.axhline(0, color="#666666", linewidth=0.7)
        ax.set(xticks=range(len(chosen)), ylabel="mean share (logits)", xlabel="second-layer filter")
        ax.set_xticklabels([str(filter) for filter in chosen.index])
        true, called = (quoted(without_middle(part[column].iloc[0], LONGEST)) for column in ("true", "called"))
        title = f"{true} called {called}:", f"margin of {true} over {called}"
        ax.set_title("\n".join(textwrap.fill(half, NARROW_LINE) for half in title) if is_narrow() else " ".join(title))
        # Beside the panel, or below it.
        where, anchor = ("upper center", (0.4, -0.22)) if is_narrow() else ("center left", (1.0, 0.5))
        ax.legend(loc=where, bbox_to_anchor=anchor)
    return figure
