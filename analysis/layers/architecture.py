"""The layers of each network and their sizes: the report's Table 1."""

from collections.abc import Sequence

import pandas as pd

from analysis.drawing.wording import listed, model_label, sentence
from analysis.exhibit import Exhibit

COLUMNS = {"what": "what it does", "equation_2": "side by equation 2"}
"""Column names of the table on the page."""


def show(tables: Sequence[pd.DataFrame]) -> Exhibit:
    """The layers of each network; each table has the columns model, layer, what, output, equation_2 and parameters."""
    totals = [f"the {model_label(table['model'][0])} has {table['parameters'].sum():,} parameters" for table in tables]
    text, note = sentence(listed(totals)), "Sizes are of one image, channels × height × width."
    table = pd.concat(tables, ignore_index=True)
    shown = table.assign(model=table["model"].map(model_label)).rename(columns=COLUMNS)
    return Exhibit("architecture", "The layers (Table 1)", text, table, shown=shown, note=note)
