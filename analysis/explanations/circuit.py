"""The circuit of one decision: which filters, where, made the margin of one class over another."""

import numpy as np
import pandas as pd

from analysis.drawing.wording import all_quoted, probability, signed
from analysis.exhibit import Exhibit
from analysis.explanations.circuit_picture import draw
from analysis.explanations.decision import Decision

NOTE = (
    "DeepSHAP: pixels, filters of either layer and links between them each sum to the margin less its mean over the "
    "background images. The second layer's shares are exact (the last layer is linear in its maps). Red speaks for "
    "the class, blue for its rival; each map's colour is as strong as its share, on one scale per layer. The small "
    "cells give the filter's share for the class against every other class. Of a second-layer kernel, the slice with "
    "the largest norm is drawn."
)


def show(decision: Decision, name: str = "circuit") -> Exhibit:
    """The circuit of a decision."""
    chosen, rival = _names(decision)
    return Exhibit(
        name,
        f"Which filters, and where, made {decision.description} {chosen} rather than {rival}?",
        caption(decision),
        shares_table(decision),
        draw(decision),
        points=points(decision),
        note=NOTE,
        tables={f"{name}_links": links_table(decision), f"{name}_pixels": pixels_table(decision)},
    )


def _names(decision: Decision) -> list[str]:
    """The chosen class and its rival, as sentences have them."""
    return all_quoted(decision.classes[place] for place in (decision.chosen, decision.rival))


def shares_table(decision: Decision) -> pd.DataFrame:
    """The shares: layer, filter, for, against, share; a row for each filter and rival."""
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "filter": np.arange(shares.shape[1]),
                "for": decision.classes[decision.chosen],
                "against": decision.classes[rival],
                "share": shares[rival],
            }
        )
        for layer, shares in decision.against.items()
        for rival in (decision.rival, *range(len(shares)))
        if rival != decision.chosen
    ]
    return pd.concat(parts, ignore_index=True).drop_duplicates(["layer", "filter", "against"], ignore_index=True)


def links_table(decision: Decision) -> pd.DataFrame:
    """The links: conv1, conv2, share; those with a share."""
    first, second = np.nonzero(decision.links)
    return pd.DataFrame({"conv1": first, "conv2": second, "share": decision.links[first, second]})


def pixels_table(decision: Decision) -> pd.DataFrame:
    """The pixels: row, column, share."""
    rows, columns = np.indices(decision.pixels.shape)
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), "share": decision.pixels.ravel()})


def caption(decision: Decision) -> str:
    """One sentence: the margin, what of it the shares explain, and the filters most for the class and most against."""
    chosen, rival = _names(decision)
    text = (
        f"The margin of {chosen} ({probability(decision.probabilities[decision.chosen])}) over {rival} "
        f"({probability(decision.probabilities[decision.rival])}) is {signed(decision.margin)} logits, "
        f"{signed(decision.mean_margin)} on average over {decision.background} training images"
    )
    leading = decision.leading("conv2")
    if not leading:
        return f"{text}; no filter of the second layer makes a difference."
    shares = decision.shares("conv2")
    ends = [filter for filter, sign in ((leading[0], 1), (leading[-1], -1)) if sign * shares[filter] > 0]
    also = "".join(f" and filter {filter} {signed(shares[filter])}" for filter in ends[1:])
    return (
        f"{text}: of the difference, {signed(decision.explained)}, filter {ends[0]} of the second layer contributes "
        f"{signed(shares[ends[0]])}{also}."
    )


def points(decision: Decision) -> list[str]:
    """One sentence each: the largest link, how much depends on the rival, and filters without a share."""
    first, second = np.unravel_index(np.abs(decision.links).argmax(), decision.links.shape)
    sentences = []
    if decision.links[first, second]:
        share = signed(decision.links[first, second])
        sentences.append(f"The largest link, {share}, runs from filter {first} of conv1 to filter {second} of conv2.")
    sentences += filter(None, [_rival_sentence(decision, layer) for layer in decision.against])
    without = int((~decision.against["conv2"].any(axis=0)).sum())
    total = decision.against["conv2"].shape[1]
    if without:
        verb = "contributes" if without == 1 else "contribute"
        sentences.append(f"{without} of the {total} second-layer filters {verb} exactly 0, whatever the rival.")
    return sentences


def _rival_sentence(decision: Decision, layer: str) -> str:
    """The filter of a layer that speaks both for and against the class, depending on the rival, the most."""
    shares = np.delete(decision.against[layer], decision.chosen, axis=0)
    rivals = np.delete(np.arange(len(decision.classes)), decision.chosen)
    both = np.minimum(shares.max(axis=0), -shares.min(axis=0))
    filter = int(both.argmax())
    # Shares that are written as zero would show no dependence.
    if both[filter] < 0.005:
        return ""
    most, least = shares[:, filter].argmax(), shares[:, filter].argmin()
    chosen, *others = all_quoted(decision.classes[place] for place in (decision.chosen, rivals[most], rivals[least]))
    return (
        f"A filter's share depends on the rival: filter {filter} of {layer} gives {chosen} "
        f"{signed(shares[most, filter])} against {others[0]} and "
        f"{signed(shares[least, filter])} against {others[1]}."
    )
