"""What every class loses when a filter's map is replaced, and how surely a loss is the largest."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.results import leads
from analysis.results.auc import auc_contributions
from analysis.results.classification import softmax

MEASURES = ("auc", "accuracy")


def ablation_effects(
    logits: np.ndarray,
    without: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    by: str = "mean",
) -> pd.DataFrame:
    """What each class loses without each filter: a row for every layer, filter and class.

    Args:
        logits: (N, K), of the intact network.
        without: (filters, N, K) by layer, each with one filter's map replaced.
        labels: (N,), indices of `classes`.
        classes: the K names.
        by: what a map was replaced by, a key of `ablation.REPLACED`.

    Returns:
        layer, filter, replaced_by, class; images, how many are of the class; auc, one-vs-rest from the softmax
        probabilities of the intact network, and auc_lost; accuracy, the share of the class's images that are
        classified correctly, and accuracy_lost; logit_change, the largest change of the class's logit in any image.
        A loss is negative if the class gains. Measures that are undefined, for lack of images of the class or of
        others, are NaN.

        For each measure also how often its loss is the largest in bootstrap resamples of the images, see `leads`:
        auc_lost_leads, of all; auc_lost_leads_classes, of those of the same filter; auc_lost_leads_layer, the mean over
        the classes of those of the same layer. The first and the last are 0 for what loses in no
        resample, unless nothing does.
    """
    whole = _contributions(logits, labels)
    measured = whole.sum(axis=0)
    weights = list(leads.weights(labels))
    tables, resampled = [], []
    for layer, changed in without.items():
        for filter, ablated in enumerate(changed):
            lost = whole - _contributions(ablated, labels)
            resampled.append(
                np.concatenate([part @ lost.reshape(len(labels), -1).astype(np.float32) for part in weights])
            )
            # Equal ranks differ by rounding errors, which are no losses.
            losses = lost.sum(axis=0).round(12)
            tables.append(
                pd.DataFrame(
                    {
                        "layer": layer,
                        "filter": filter,
                        "replaced_by": by,
                        "class": list(classes),
                        "images": np.bincount(labels, minlength=len(classes)),
                        "auc": measured[0],
                        "auc_lost": losses[0],
                        "accuracy": measured[1],
                        "accuracy_lost": losses[1],
                        "logit_change": np.abs(ablated - logits).max(axis=0),
                    }
                )
            )
    filters = {layer: len(changed) for layer, changed in without.items()}
    of_filters = np.stack(resampled, axis=1).reshape(-1, sum(filters.values()), len(MEASURES), len(classes))
    return pd.concat(tables, ignore_index=True).assign(**_leads(of_filters, filters))


def _contributions(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each image contributes to the AUC and to the accuracy of each class, (N, 2, K); each sums to the measure."""
    is_member = labels[:, None] == np.arange(logits.shape[1])
    members = is_member.sum(axis=0)
    is_right = is_member & (logits.argmax(axis=1) == labels)[:, None]
    accuracy = np.divide(is_right, members, out=np.full(logits.shape, np.nan), where=members > 0)
    return np.stack([auc_contributions(softmax(logits), labels), accuracy], axis=1)


def _leads(resampled: np.ndarray, filters: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The shares of resamples in which each loss is the largest, a value for each filter and class.

    Args:
        resampled: the losses, (resamples, filters, measures, K).
        filters: how many there are of each layer.
    """
    shares = {}
    for place, measure in enumerate(MEASURES):
        losses = resampled[:, :, place]
        resamples, count, classes = losses.shape
        defined = ~np.isnan(losses).all(axis=(0, 1))
        means = losses[:, :, defined].mean(axis=2) if defined.any() else np.full((resamples, count), np.nan)
        of_layers = np.split(_losing(means), np.cumsum(list(filters.values()))[:-1], axis=1)
        name = f"{measure}_lost_leads"
        shares[name] = leads.lead_shares(_losing(losses.reshape(resamples, -1)))
        shares[f"{name}_classes"] = np.concatenate([leads.lead_shares(losses[:, number]) for number in range(count)])
        shares[f"{name}_layer"] = np.concatenate([leads.lead_shares(part) for part in of_layers]).repeat(classes)
    return shares


def _losing(losses: np.ndarray) -> np.ndarray:
    """The losses (resamples, n) without those that are in no resample: where nothing is lost, they would lead too."""
    # Beyond the rounding errors of float32.
    return np.where(np.nan_to_num(losses).max(axis=0) > 1e-7, losses, np.nan)
