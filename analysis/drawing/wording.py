"""Numbers and names as they are written in a sentence or beside a mark."""

import math
from collections.abc import Sequence

KINDS = {"conv": "feature map", "relu": "ReLU", "pool": "max pooling"}
"""What a layer of filters makes, by how its name begins."""


def layer_name(layer: str) -> str:
    """E.g. ``ReLU (relu2)``."""
    return f"{KINDS[layer[:4]]} ({layer})"


def measured(layer: str) -> str:
    """What the values of a layer's maps are."""
    return "pre-activation" if layer.startswith("conv") else "activation"


def with_minus(number: str) -> str:
    """A number with a true minus sign; an exponent keeps its hyphen."""
    return number.replace("-", "−", 1) if number.startswith("-") else number


def listed(words: Sequence[str]) -> str:
    """E.g. ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The names in a row, those beyond `most` as their number: ``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def several(names: Sequence[str], most: int = 3) -> str:
    """All names where they are few, e.g. those that tie for a place: ``a and b``, ``a, b, c and 2 more``."""
    return listed(names) if len(names) <= most + 1 else first_few(names, most)


def counted(number: int, what: str) -> str:
    """E.g. ``1 seed`` and ``3 seeds``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """The text with a capital letter first and a full stop last."""
    return f"{text[0].upper()}{text[1:]}."


def without_middle(name: str, most: int = 24) -> str:
    """A name of no more than `most` characters: a longer one without its middle, as its ends tell it from others."""
    tail = most // 3
    return name if len(name) <= most else f"{name[: most - tail - 1]}…{name[-tail:]}"


def without_end(name: str, most: int) -> str:
    """A name of at most `most` characters, the last of them an ellipsis where it was longer."""
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def number(value: float, digits: int = 0) -> str:
    """With a true minus sign, and none before a zero."""
    return f"{round(float(value), digits) + 0:,.{digits}f}".replace("-", "−")


def said_mean(mean: float, sd: float, form: str, scale: float = 1) -> str:
    """E.g. ``3.1 ± 0.4``, each times `scale`; without the deviation where it is NaN, a dash for no mean."""
    if math.isnan(mean):
        return "–"
    return form.format(scale * mean) + ("" if math.isnan(sd) else f" ± {form.format(scale * sd)}")
