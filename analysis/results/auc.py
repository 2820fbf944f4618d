"""The area under the ROC curve (AUC) of each class against the rest, as a sum over the images."""

import numpy as np
from scipy.stats import rankdata


def auc_contributions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each image contributes to the AUC of each class, (N, K): each column sums to the AUC.

    The AUC is the share of pairs, an image of the class and one of another, that are ranked correctly, with ties
    counting half. The contributions come from the placement values, the shares of its pairs of which this is so for
    one image: summed over a resample of each class's images, they give its AUC to first order. DeLong, DeLong and
    Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating characteristic curves".

    Args:
        scores: (N, K), finite.
        labels: (N,), indices of the K classes.

    Returns:
        (N, K); NaN for a class that has all images or none.
    """
    images, classes = scores.shape
    is_member = labels[:, None] == np.arange(classes)
    members = is_member.sum(axis=0)
    own = [rankdata(np.where(side, scores, np.inf), axis=0) for side in (is_member, ~is_member)]
    # The number of images on the other side with a lower score.
    below = rankdata(scores, axis=0) - np.where(is_member, *own)
    others = np.where(is_member, images - members, members)
    placements = np.divide(below, others, out=np.full(scores.shape, np.nan), where=others > 0)
    placements = np.where(is_member, placements, 1 - placements)
    areas = np.divide(
        np.where(is_member, placements, 0).sum(axis=0), members, out=np.full(classes, np.nan), where=members > 0
    )
    # Either side sums to the AUC; what both have in common is subtracted once.
    return np.asarray(placements / np.where(is_member, members, images - members) - areas / images)
