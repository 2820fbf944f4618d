"""Confidence intervals of Table 2's measures, and of the differences between the models."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.results.bootstrap import RESAMPLES, bootstrap
from analysis.results.classification import MEASURES, REPORT_TABLE_2, Predictions, metrics_table
from analysis.results.kinds import has_groups
from analysis.results.proportions import CONFIDENCE, bonett_price, mcnemar, wilson

SHARES = ["accuracy", "recall"]
"""Measures that are shares of images; the weighted recall equals the accuracy."""
INTERVAL_COLUMNS = ["model", "minus", "split", "images", "measure", "value", "low", "high", "discordant", "p_value"]
_Predicted = tuple[np.ndarray, np.ndarray]
_KEYS = ["model", "split", "measure"]
_REPORTED = REPORT_TABLE_2.melt(_KEYS[:2], var_name="measure").set_index(_KEYS)["value"]


def measured(predictions: Predictions, classes: Sequence[str], *, of_cifar10: bool) -> pd.DataFrame:
    """Table 2 with intervals; for CIFAR-10's classes also the report's numbers, see `with_report`.

    Args:
        predictions: logits and labels by (model, split).
        classes: the names.
        of_cifar10: whether the images are CIFAR-10 as it is published, not merely of classes with the same names.
    """
    table = intervals(predictions)
    by_split = {split: labels for (_, split), (_, labels) in predictions.items()}
    largest = {split: _largest_share(by_split.get("train", labels), labels) for split, labels in by_split.items()}
    table["largest_class"] = table["split"].map(largest)
    return with_report(table, same_images=of_cifar10) if has_groups(classes) else table


def _largest_share(known: np.ndarray, labels: np.ndarray) -> float:
    """The accuracy on `labels` of always answering the most frequent class of `known`; NaN without images."""
    return float((labels == np.bincount(known).argmax()).mean()) if len(known) and len(labels) else np.nan


def intervals(predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Every measure of Table 2 with its interval, then the models' paired differences with theirs.

    Shares of images have Wilson's interval, differences of two shares Bonett and Price's. The others have the
    percentile interval of bootstrap resamples at `CONFIDENCE`. It is NaN if all resamples are equal: without a single
    error in the sample, the bootstrap would give 1 an interval of width 0.

    Returns:
        model, minus (the model subtracted; empty for a measure of one model), split, images, measure, value, low, high;
        for a difference of shares also discordant, the number of images that only one model gets right, and
        McNemar's p_value, else NaN.
    """
    if not predictions:
        return pd.DataFrame(columns=INTERVAL_COLUMNS)
    values = dict(zip(predictions, metrics_table(predictions)[MEASURES].to_numpy(float), strict=True))
    resampled = bootstrap(predictions, resamples=resamples, seed=seed)
    rows = [_model_rows(*key, values[key], resampled[key], predictions[key]) for key in predictions]
    for (model, split), (other, same) in combinations(predictions, 2):
        if split == same:
            difference, differences = (by_key[model, split] - by_key[other, split] for by_key in (values, resampled))
            test = mcnemar({name: predictions[name, split] for name in (model, other)}).iloc[0]
            rows.append(_difference_rows(split, difference, differences, test))
    return pd.concat(rows, ignore_index=True)


def _model_rows(model: str, split: str, values: np.ndarray, resampled: np.ndarray, kept: _Predicted) -> pd.DataFrame:
    """The rows of a single model."""
    logits, labels = kept
    (low,), (high,) = wilson([int((logits.argmax(axis=1) == labels).sum())], [len(labels)])
    table = _rows(values, resampled, (low, high))
    return table.assign(model=model, minus="", split=split, images=len(labels))[INTERVAL_COLUMNS]


def _difference_rows(split: str, values: np.ndarray, resampled: np.ndarray, test: "pd.Series[Any]") -> pd.DataFrame:
    """The rows of the difference of two models; `test` is their row from `mcnemar`."""
    only, also, images = (int(test[name]) for name in ("only_model_right", "only_other_right", "images"))
    table = _rows(values, resampled, bonett_price(only, also, images))
    table.loc[table["measure"].isin(SHARES), ["discordant", "p_value"]] = only + also, test["p_value"]
    return table.assign(model=test["model"], minus=test["other"], split=split, images=images)[INTERVAL_COLUMNS]


def _rows(values: np.ndarray, resampled: np.ndarray, of_shares: tuple[float, float]) -> pd.DataFrame:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    table = pd.DataFrame({"measure": MEASURES, "value": values, "low": low, "high": high})
    # Equal resamples: sums of weights differ only by rounding.
    table.loc[np.isclose(low, high, rtol=0, atol=1e-12), ["low", "high"]] = np.nan
    table.loc[table["measure"].isin(SHARES), ["low", "high"]] = of_shares
    return table.assign(discordant=np.nan, p_value=np.nan)


def with_report(table: pd.DataFrame, *, same_images: bool) -> pd.DataFrame:
    """An `intervals` table with the column report: the measure or difference in Wik (2023), NaN if not given there.

    The column same_images says whether the report's numbers are of the same images.
    """
    keys = table[["split", "measure"]].itertuples(index=False, name=None)
    pairs = zip(table["model"], table["minus"], keys, strict=True)
    numbers = [_reported(model, *key) - (_reported(minus, *key) if minus else 0) for model, minus, key in pairs]
    return table.assign(report=np.array(numbers, dtype=float), same_images=same_images)


def _reported(model: str, split: str, measure: str) -> float:
    return float(_REPORTED.get((model, split, measure), np.nan))


def readable(numbers: Sequence[float], *, signed: bool = False) -> str:
    """A value with its bounds, if given: ``0.701 (0.692–0.710)``; with a sign if `signed`; ``undefined`` for NaN.

    Bounds of NaN are left out.
    """
    if np.isnan(numbers[0]):
        return "undefined"
    value, *bounds = (f"{number:.3f}".replace("-", "−") for number in numbers if not np.isnan(number))
    if signed and not value.startswith("−"):
        value = f"+{value}"
    # A dash beside a minus sign would look like a second one.
    dash = " to " if "−" in "".join(bounds) else "–"
    return f"{value} ({dash.join(bounds)})" if bounds else value
