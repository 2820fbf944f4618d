"""Intervals of shares of images and of paired differences of shares, and McNemar's test."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2, norm

from analysis.drawing.wording import model_label
from analysis.exhibit import Exhibit

CONFIDENCE = 0.95
FEW_DISCORDANT = 25
"""Fewest discordant images for the chi-squared form of McNemar's test; below, it is exact."""


def wilson(successes: Sequence[int], totals: Sequence[int]) -> np.ndarray:
    """Wilson's score intervals (2, N) at `CONFIDENCE` of N shares; NaN if the total is 0.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    bounds = [
        binomtest(int(hits), int(total)).proportion_ci(CONFIDENCE, method="wilson") if total else (np.nan, np.nan)
        for hits, total in zip(successes, totals, strict=True)
    ]
    return np.array(bounds, dtype=float).reshape(-1, 2).T


def bonett_price(only: int, also: int, images: int) -> tuple[float, float]:
    """The interval at `CONFIDENCE` of the difference of two shares of the same images; NaN without images.

    Wald's interval with one image added to each count, so that its width is not 0 even if the two never disagree:
    Bonett and Price (2012), "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", which Fagerland, Lydersen and Laake (2014, BMC Medical Research Methodology 14) recommend.

    Args:
        only: the images that count for the first share alone.
        also: the images that count for the second share alone.
        images: the number of all images.
    """
    if not images:
        return np.nan, np.nan
    first, second = ((count + 1) / (images + 2) for count in (only, also))
    middle = first - second
    reach = float(norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((first + second - middle**2) / (images + 2)))
    return max(middle - reach, -1.0), min(middle + reach, 1.0)


def show_mcnemar(predictions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Exhibit:
    """McNemar's test of two models on the test images."""
    table = mcnemar(predictions)
    heading = f"{' against '.join(model_label(model) for model in predictions)}: McNemar's test"
    return Exhibit("mcnemar", heading, mcnemar_caption(table), table, shown=mcnemar_readable(table))


def mcnemar(predictions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """McNemar's test of whether two models are wrong equally often, from the images that only one gets right.

    Exact (two-sided binomial) below `FEW_DISCORDANT` of those, else chi-squared with one degree of freedom and
    Edwards's continuity correction, bounded at 0: max(|b − c| − 1, 0)² / (b + c).
    McNemar (1947), Psychometrika 12; Edwards (1948), Psychometrika 13.

    Args:
        predictions: logits (N, K) and labels (N,) of two models on the same images.

    Returns:
        One row: model, other, images, both_right, only_model_right, only_other_right, neither_right, variant,
        statistic (NaN for the exact test) and p_value.
    """
    (model, first), (other, second) = (
        (name, logits.argmax(1) == labels) for name, (logits, labels) in predictions.items()
    )
    only, also = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only + also
    if discordant < FEW_DISCORDANT:
        variant, statistic = "exact binomial", np.nan
        p_value = float(binomtest(only, discordant).pvalue) if discordant else 1.0
    else:
        variant, statistic = "chi-squared, continuity-corrected", max(abs(only - also) - 1, 0) ** 2 / discordant
        p_value = float(chi2.sf(statistic, 1))
    counts = [len(first), int((first & second).sum()), only, also, int((~first & ~second).sum())]
    names = ["images", "both_right", "only_model_right", "only_other_right", "neither_right"]
    row = {"model": model, "other": other, **dict(zip(names, counts, strict=True))}
    return pd.DataFrame([{**row, "variant": variant, "statistic": statistic, "p_value": p_value}])


def mcnemar_caption(table: pd.DataFrame) -> str:
    """One sentence: on how many images only one model is right, and the result of the test."""
    row = table.iloc[0]
    statistic = "" if np.isnan(row["statistic"]) else f"χ² = {row['statistic']:,.1f}, "
    return (
        f"Of {row['images']:,} images {model_label(row['model'])} alone is right on {row['only_model_right']:,} and "
        f"{model_label(row['other'])} alone on {row['only_other_right']:,} (McNemar's test, {row['variant']}: "
        f"{statistic}p {p_in_words(row['p_value'])}): {verdict(row['p_value'])}."
    )


def mcnemar_readable(table: pd.DataFrame) -> pd.DataFrame:
    """A `mcnemar` table formatted for the page, with the models' names in the columns; the exact test has no χ²."""
    row = table.iloc[0]
    first, second = model_label(row["model"]), model_label(row["other"])
    cells = {
        "test images": row["images"],
        "both right": row["both_right"],
        f"only {first} right": row["only_model_right"],
        f"only {second} right": row["only_other_right"],
        "neither right": row["neither_right"],
        "test": row["variant"],
        **({} if np.isnan(row["statistic"]) else {"χ²": row["statistic"]}),
        "p": p_in_words(row["p_value"]).removeprefix("= "),
    }
    return pd.DataFrame([cells])


def is_shown(p_value: float) -> bool:
    """Whether a p value is significant at level 1 − `CONFIDENCE`."""
    return p_value < 1 - CONFIDENCE


def verdict(p_value: float) -> str:
    """The result of a test of two models in words."""
    return "the models differ" if is_shown(p_value) else "no difference is shown"


def p_in_words(p_value: float) -> str:
    """A p value in words: ``= 0.123``, or ``< 0.001`` for one that would round to zero."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
