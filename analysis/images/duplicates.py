"""Exact duplicates among the images of a data set."""

from collections.abc import Mapping

import pandas as pd

from analysis.drawing.wording import listed
from analysis.exhibit import Exhibit

NOTE = "Duplicates are images whose pixels are equal as the models see them, resized; near duplicates are not counted."


def show(counts: Mapping[str, tuple[int, int]], duplicates: pd.DataFrame, images: int) -> Exhibit:
    """The number of duplicates of each kind.

    Args:
        counts: by kind, the number of duplicates and the number of images that they are among.
        duplicates: a row for each image that has duplicates.
        images: the number of all images.
    """
    rows = [(kind, *numbers) for kind, numbers in counts.items()]
    table = pd.DataFrame(rows, columns=["kind", "images", "of"])
    tables = {"duplicate_images": duplicates} if len(duplicates) else {}
    heading = "Exact duplicates among the images"
    return Exhibit("duplicates", heading, caption(counts, images), table, note=NOTE, tables=tables)


def caption(counts: Mapping[str, tuple[int, int]], images: int) -> str:
    """One sentence: how many duplicates there are of each kind."""
    if not counts:
        return f"No two of the {images:,} images are equal."
    return f"There are {listed([f'{count:,} of {total:,} {kind}' for kind, (count, total) in counts.items()])}."
