"""The health of every filter by epoch: active, silent (its ReLU is always zero), or collapsed (tiny weights)."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.drawing.style import COLLAPSED
from analysis.drawing.wording import are, counted, listed
from analysis.exhibit import Exhibit
from analysis.filters.health_picture import draw_filter_health, note, noun

ByEpoch = Mapping[str, Mapping[int, np.ndarray]]
"""Weights (filters, …) by layer and epoch."""


def show(
    table: pd.DataFrame,
    images: int,
    removal: Mapping[str, Any] | None,
    accuracy: Mapping[int, float],
    followed: Mapping[str, Collection[int]],
) -> Exhibit:
    """Which filters are alive.

    Args:
        table: see `filter_health`.
        images: number of images on which silence was tested.
        removal: the arguments of `removal_caption`, where it was measured.
        accuracy: test accuracy (0..1) by epoch.
        followed: the filters to mark, by layer.
    """
    layers = list(table["layer"].unique())
    what, text = noun(layers[0]), caption(table, images)
    figure = draw_filter_health(table, accuracy, followed)
    points = [removal_caption(**removal, what=what)] if removal else []
    heading, about = f"Which {what} are alive", note(table, followed)
    return Exhibit("filter_health", heading, text, table, figure, points=points, note=about)


def filter_health(weights: ByEpoch, activity: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]) -> pd.DataFrame:
    """The state of every filter at every epoch.

    Args:
        weights: (filters, …) by layer and epoch, without the bias.
        activity: by layer and epoch, each (filters,): `active_images` and `active_positions`, the shares of images and
            positions with a positive ReLU output, and `silent`, whether there is none on the whole test set.

    Returns:
        layer, filter, epoch, largest_weight (max |w|), active_images, active_positions, silent, collapsed, state (see
        `STATES`), died: the first epoch from which the filter is silent to the end, missing if it is not.
    """
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "filter": np.arange(len(values)),
                "epoch": epoch,
                "largest_weight": np.abs(values).reshape(len(values), -1).max(1),
                **activity[layer][epoch],
            }
        )
        for layer, by_epoch in weights.items()
        for epoch, values in sorted(by_epoch.items())
    ]
    table = pd.concat(parts, ignore_index=True)
    table["collapsed"] = table["largest_weight"] < COLLAPSED
    silent, collapsed = table["silent"], table["collapsed"]
    table["state"] = np.select(
        [silent & collapsed, silent, collapsed], ["silent and collapsed", "silent", "collapsed"], "active"
    )
    died = [_died(str(layer), part) for layer, part in table.groupby("layer", sort=False)]
    return table.merge(pd.concat(died), on=["layer", "filter"])


def _died(layer: str, table: pd.DataFrame) -> pd.DataFrame:
    silent = table.pivot(index="filter", columns="epoch", values="silent")
    died = from_then_on(silent.to_numpy(bool), silent.columns.to_numpy())
    return pd.DataFrame({"layer": layer, "filter": silent.index, "died": died})


def from_then_on(holds: np.ndarray, epochs: np.ndarray) -> pd.Series:
    """For each row, the first epoch from which a condition holds until the last epoch.

    Args:
        holds: bool, (rows, epochs).
        epochs: the numbers of the epochs, ascending.

    Returns:
        (rows,), Int64; missing if it does not hold at the last epoch.
    """
    lengths = np.logical_and.accumulate(holds[:, ::-1], axis=1).sum(1)
    return pd.Series([epochs[-length] if length else pd.NA for length in lengths], dtype="Int64")


def dead_filters(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The numbers of each layer's filters that are silent or collapsed at the last epoch."""
    last = table[table["epoch"] == table["epoch"].max()]
    return {
        str(layer): part.loc[part["state"] != "active", "filter"].to_numpy()
        for layer, part in last.groupby("layer", sort=False)
    }


def caption(table: pd.DataFrame, images: int) -> str:
    """One sentence: how many filters of each layer are dead at the last epoch, since when, and what came back.

    Args:
        table: see `filter_health`.
        images: number of images on which silence was tested.
    """
    last = table["epoch"].max()
    phrases = [_layer_phrase(str(layer), part) for layer, part in table.groupby("layer", sort=False)]
    return f"At epoch {last}, of {counted(images, 'test image')}: {'; '.join(phrases)}."


def removal_caption(
    *,
    filters: int,
    accuracy: float,
    accuracy_without: float,
    parameters: int,
    parameters_without: int,
    what: str = "filters",
) -> str:
    """One sentence: accuracy (0..1) and number of parameters with and without the dead filters, or units (`what`)."""
    if not filters:
        return f"None is dead; the test accuracy is {accuracy:.2%}."
    one, maps = filters == 1, what == "filters"
    of = f"the {'map' if one else 'maps'} of " if maps else ""
    number, dead = ("the one", what.removesuffix("s")) if one else (f"all {filters}", what)
    silent = f"one's {are(filters)}" if maps else "one is"
    return (
        f"With {of}{number} dead (silent or collapsed) {dead} set to zero, as a silent {silent} anyway, "
        f"the test accuracy is {accuracy_without:.2%}, against {accuracy:.2%} with {'it' if one else 'them'}; "
        f"{parameters_without:,} of {parameters:,} parameters are then in use."
    )


def _layer_phrase(layer: str, table: pd.DataFrame) -> str:
    last = table[table["epoch"] == table["epoch"].max()]
    silent = last[last["silent"]]
    text = f"{len(silent)} of {layer}'s {len(last)} {noun(layer)} {are(len(silent))} silent on every one"
    if len(silent):
        text += f" ({silent['collapsed'].sum()} of them collapsed, max |w| < {COLLAPSED:g}), {_since(silent['died'])}"
    only = int((last["state"] == "collapsed").sum())
    clauses = [f"{only} more collapsed without being silent" if only else "", _reactivated(table), _regrown(table)]
    return text + f", and {listed(list(filter(None, clauses)))}" * any(clauses)


def _since(died: pd.Series) -> str:
    first, median, last = died.min(), died.astype(float).median(), died.max()
    return f"since epoch {first}" if first == last else f"since epochs {first} to {last} (median {median:g})"


def _reactivated(table: pd.DataFrame) -> str:
    """A clause: how many filters were active again after they had been silent, and how many of those at the end."""
    silent = _by_epoch(table, "silent")
    back = (silent[:, :-1] & ~silent[:, 1:]).any(axis=1)
    if not back.any():
        return ""
    verb, lasting = "was" if back.sum() == 1 else "were", int((back & ~silent[:, -1]).sum())
    at_end = f"{lasting} of them at the end" if back.sum() > 1 else "also at the end" if lasting else "not at the end"
    return f"{back.sum()} {verb} active again for some epochs after being silent ({at_end})"


def _regrown(table: pd.DataFrame) -> str:
    """A clause: how many filters collapsed at any epoch, and how many of those grew weights again while silent."""
    silent, collapsed = _by_epoch(table, "silent"), _by_epoch(table, "collapsed")
    if not collapsed.any():
        return ""
    grown = collapsed[:, :-1] & ~collapsed[:, 1:]
    text = f"{collapsed.any(axis=1).sum()} collapsed at some epoch"
    if not grown.any():
        return text
    quiet = (grown & silent[:, 1:]).any(axis=1).sum()
    return f"{text} ({grown.any(axis=1).sum()} of which grew weights again, {quiet} while silent)"


def _by_epoch(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column of one layer's table as an array, bool (filters, epochs)."""
    return table.pivot(index="filter", columns="epoch", values=column).to_numpy(bool)
