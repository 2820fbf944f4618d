"""Formats numbers and names for sentences and labels."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, SupportsFloat

KINDS = {"conv": "feature map", "relu": "ReLU", "pool": "pooling"}
"""The output of a layer of filters, by the beginning of the layer's name."""
ABBREVIATIONS = ("cnn", "ffnn")
"""The models whose names are written in capitals."""

HYPERPARAMETERS = {
    "filters1": "filters of conv1",
    "filters2": "filters of conv2",
    "hidden": "hidden units",
    "kernel": "kernel size",
    "planned_epochs": "epochs",
    "pool": "pooling size",
    "pooling": "kind of pooling",
    "warmup_steps": "warm-up steps",
}
"""Hyperparameters in words, where these are not their names."""


def hyperparameter(name: str) -> str:
    """A hyperparameter in words: ``learning rate``."""
    return HYPERPARAMETERS.get(name, name.replace("_", " "))


def column_title(name: object) -> str:
    """A table's column in words: an identifier without its underscores; what has spaces is in words already.

    Such a title may hold the name of a network or a class, which keeps its underscores.
    """
    return str(name) if " " in str(name) else str(name).replace("_", " ")


def settings(values: Mapping[str, Any]) -> str:
    """Hyperparameters with their values: ``learning rate 0.00123, weight decay 2.5e-05, kernel 3``."""
    written = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{hyperparameter(name)} {value}" for name, value in written.items())


def layer_name(layer: str) -> str:
    """A layer with the name of its output: ``ReLU (relu2)``."""
    return f"{KINDS[layer[:4]]} ({layer})"


def measured(layer: str) -> str:
    """The name of the values in a layer's maps."""
    return "pre-activation" if layer.startswith("conv") else "activation"


def model_label(model: object) -> str:
    """A model as sentences and figures name it: ``CNN``, ``FFNN``; any other one by its own name."""
    return str(model).upper() if model in ABBREVIATIONS else str(model)


def with_minus(number: str) -> str:
    """A formatted number with a true minus sign; an exponent keeps its hyphen."""
    return number.replace("-", "−", 1) if number.startswith("-") else number


def minus_signs(number: str) -> str:
    """A formatted number with true minus signs, in the exponent too, which loses its leading zero: ``−2e−5``."""
    return number.replace("e-0", "e-").replace("-", "−")


def quoted(name: str) -> str:
    """A class name as sentences have it: in quotation marks, unless it is one word of letters."""
    return name if name.replace("-", "").isalpha() else f"“{name}”"


def all_quoted(names: Iterable[str]) -> list[str]:
    """Each of several class names as `quoted` has it."""
    return [quoted(name) for name in names]


def listed(words: Sequence[str]) -> str:
    """The words as a list in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first `most` names, and the number of the others: ``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def several(names: Sequence[str], most: int = 3) -> str:
    """Names that tie, e.g. for a maximum, shortened if they are many: ``a and b``, ``a, b, c and 2 more``."""
    return listed(names) if len(names) <= most + 1 else first_few(names, most)


def counted(number: int, what: str) -> str:
    """A count with its noun: ``1 seed``, ``3 seeds``, ``1,000 seeds``; ``4 searches``."""
    # The ch of epoch is a k, that of search and batch is not.
    plural = "es" if what.endswith(("search", "batch", "s", "x")) else "s"
    return f"{number:,} {what}{'' if number == 1 else plural}"


def are(number: int) -> str:
    """The verb after a count: ``is`` for one."""
    return "is" if number == 1 else "are"


def have(number: int) -> str:
    """The verb after a count: ``has`` for one."""
    return "has" if number == 1 else "have"


def sentence(text: str) -> str:
    """The text as a sentence, with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def without_middle(name: str, most: int = 24) -> str:
    """The name in the width of `most` characters; a longer one loses its middle, since its ends distinguish it."""
    tail = most // 3
    return name if width(name) <= most else f"{_start(name, most - tail - 1)}…{_start(name[::-1], tail)[::-1]}"


def without_end(name: str, most: int) -> str:
    """The name in the width of `most` characters; a longer one ends in an ellipsis."""
    return name if width(name) <= most else f"{_start(name, most - 1).rstrip()}…"


def all_without_end(names: Sequence[str], most: int) -> list[str]:
    """Each of several different names as `without_end` has it, or `without_middle` if their beginnings are alike."""
    cut = [without_end(name, most) for name in names]
    return cut if len(set(cut)) == len(cut) else [without_middle(name, most) for name in names]


def width(text: str) -> int:
    """The width of the text in Latin characters: wide ones, and the boxes for those that no font has, count twice."""
    return len(text) if text.isascii() else sum(_widths(text))


def _widths(text: str) -> list[int]:
    if text.isascii():
        return [1] * len(text)
    # Here, since commands that draw nothing write sentences, too, and need no matplotlib.
    from analysis.drawing.fonts import undrawable

    boxes = undrawable(text)
    return [1 + (character in boxes or unicodedata.east_asian_width(character) in "WF") for character in text]


def _start(text: str, most: int) -> str:
    """As many of the first characters as fit into the width of `most` Latin ones."""
    return text[: sum(total <= most for total in accumulate(_widths(text)))]


def number(value: float, digits: int = 0) -> str:
    """A number with thousands separators and a true minus sign, without one before zero."""
    return f"{round(float(value), digits) + 0:,.{digits}f}".replace("-", "−")


def probability(share: float) -> str:
    """A probability in percent with one decimal; one that is not quite 0 or 1 is not rounded to it."""
    if 0 < share < 0.0005:
        return "under 0.1%"
    return "over 99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def mean_phrase(mean: float, sd: float, form: str, scale: float = 1) -> str:
    """A mean with its standard deviation, times `scale`: ``3.1 ± 0.4``, ``3.1`` if `sd` is NaN, – if `mean` is."""
    if math.isnan(mean):
        return "–"
    return form.format(scale * mean) + ("" if math.isnan(sd) else f" ± {form.format(scale * sd)}")


def signed(value: SupportsFloat) -> str:
    """A share with two decimals and its sign."""
    text = number(float(value), 2)
    return text if text.startswith("−") or text == "0.00" else f"+{text}"
