"""The optional dependencies of this package, and the command that installs them."""

from importlib.metadata import requires

DISTRIBUTION = "tracing-convolutions"


def installing(extra: str) -> str:
    """The command that installs the optional dependencies called `extra`, in the versions that were tried."""
    found = [text.partition(";")[0].strip() for text in requires(DISTRIBUTION) or () if f'extra == "{extra}"' in text]
    return " ".join(["pip install", *(f"'{requirement}'" for requirement in found)])
