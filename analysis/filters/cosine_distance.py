"""The cosine distance of each filter to its final weights and to those of the epoch before, and when it has settled."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.drawing.style import COLLAPSED
from analysis.filters.health import ByEpoch, from_then_on

WITHIN = (0.05, 0.1)
"""A filter has settled once its cosine distance to its final weights stays within this: angles of 18° and 26°."""
DISTANCES = ("to_final", "step")
SETTLED = [f"settled_{within:g}" for within in WITHIN]
BAND = 0.1, 0.9
"""Quantiles that bound the band around the median: four fifths of the filters."""
BLOCK = 2**23
"""Number of weights, of all epochs, that are compared at a time."""


def kernel_convergence(weights: ByEpoch, health: pd.DataFrame) -> pd.DataFrame:
    """The distance of every filter at every epoch to its final weights and to those of the epoch before.

    The cosine distance, 1 - cos of the angle between two filters' weights, is 0 for equal directions and 1 for a right
    angle. That to the final weights ends at 0 by construction; whether a filter has come to rest shows in the step.

    Args:
        weights: (filters, …) of each layer by epoch; also the maps of an image instead of weights.
        health: layer, filter, epoch and silent as in `health.filter_health`, without layers that have no ReLU.

    Returns:
        layer, filter, epoch, norm, alive (neither silent nor collapsed), to_final and step (cosine distances; NaN
        if the filter is dead at either epoch, or the epoch before was not kept), and for each of `WITHIN` settled_…:
        the first epoch from which `to_final` stays within it, missing for a filter that is dead at the end.
    """
    silent = health.pivot(index=["layer", "filter"], columns="epoch", values="silent")
    parts = []
    for layer, by_epoch in weights.items():
        dead = silent.loc[layer, sorted(by_epoch)].to_numpy(bool) if layer in silent.index else False
        parts.append(_in_blocks(by_epoch, np.asarray(dead)).assign(layer=layer))
    return pd.concat(parts, ignore_index=True)[["layer", "filter", "epoch", "norm", "alive", *DISTANCES, *SETTLED]]


def _in_blocks(by_epoch: Mapping[int, np.ndarray], silent: np.ndarray) -> pd.DataFrame:
    """The table of one layer, a block of its filters at a time: all weights of all epochs may be gigabytes."""
    values = len(by_epoch) * next(iter(by_epoch.values()))[0].size
    filters = len(next(iter(by_epoch.values())))
    tables = []
    for block in np.array_split(np.arange(filters), min(filters, 1 + filters * values // BLOCK)):
        part = {epoch: weights[block] for epoch, weights in by_epoch.items()}
        table = _layer_table(part, silent[block] if silent.ndim else silent)
        tables.append(table.assign(filter=table["filter"] + block[0]))
    return pd.concat(tables, ignore_index=True)


def _layer_table(by_epoch: Mapping[int, np.ndarray], silent: np.ndarray | bool) -> pd.DataFrame:
    """The table of one layer; `silent` is (filters, epochs)."""
    epochs = np.array(sorted(by_epoch))
    rows = np.stack([by_epoch[epoch].reshape(len(by_epoch[epoch]), -1) for epoch in epochs], axis=1).astype(float)
    alive = (np.abs(rows).max(2) >= COLLAPSED) & ~np.asarray(silent)
    to_final = np.where(alive & alive[:, -1:], _cosine_distance(rows, rows[:, -1:]), np.nan)
    step = np.full(alive.shape, np.nan)
    known = alive[:, 1:] & alive[:, :-1] & (np.diff(epochs) == 1)
    step[:, 1:] = np.where(known, _cosine_distance(rows[:, 1:], rows[:, :-1]), np.nan)
    return pd.DataFrame(
        {
            "filter": np.repeat(np.arange(len(rows)), len(epochs)),
            "epoch": np.tile(epochs, len(rows)),
            "norm": np.linalg.norm(rows, axis=2).ravel(),
            "alive": alive.ravel(),
            "to_final": to_final.ravel(),
            "step": step.ravel(),
            **{
                name: from_then_on(to_final <= within, epochs).repeat(len(epochs)).array
                for name, within in zip(SETTLED, WITHIN, strict=True)
            },
        }
    )


def _cosine_distance(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """1 - cos of the angle between vectors along the last axis; NaN for a vector of zeros."""
    products = (these * those).sum(-1)
    norms = np.linalg.norm(these, axis=-1) * np.linalg.norm(those, axis=-1)
    cosines = np.divide(products, norms, out=np.full(norms.shape, np.nan), where=norms > 0)
    # Equal weights differ by rounding errors of 1e-16.
    return np.maximum((1 - cosines).round(12), 0)


def settled_epochs(table: pd.DataFrame, settled: str = SETTLED[0]) -> pd.Series:
    """The epoch from which each filter of one layer has settled, by filter; only filters alive at the end."""
    return table.groupby("filter")[settled].first().dropna().astype(int)


def spread(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The median and the band of a measure over the filters of one layer that are alive at the end.

    Returns:
        epoch, low, median, high.
    """
    living = table[table[SETTLED[0]].notna()].dropna(subset=measure)
    groups = living.groupby("epoch")[measure]
    low, high = (groups.quantile(quantile) for quantile in BAND)
    return pd.DataFrame({"low": low, "median": groups.median(), "high": high}).reset_index()
