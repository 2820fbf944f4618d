import pytest

from study.errors import MANY, causes, unknown


def raised(first: BaseException, second: BaseException) -> None:
    """Raises `second` while `first` is being handled."""
    try:
        raise first
    except BaseException:
        raise second from None


def test_the_causes_of_an_error_are_what_it_was_raised_from_or_while_handling():
    first, second, third = ValueError("first"), KeyError("second"), RuntimeError("third")
    with pytest.raises(KeyError):
        raised(first, second)
    third.__cause__ = second
    assert list(causes(third)) == [third, second, first]


NAMES = ["ablation", "address", "dataset", "decay", *map(str, range(MANY))]


def test_of_many_choices_those_like_the_bad_value_come_first():
    assert str(unknown("key", "datset", NAMES)).startswith(
        "Unknown key 'datset': did you mean dataset? Choose one of ablation, "
    )
    assert str(unknown("key", "fog", NAMES)).startswith("Unknown key 'fog': choose one of ablation, ")


def test_few_choices_are_all_named():
    assert str(unknown("model", "cn", ["cnn", "ffnn"])) == "Unknown model 'cn': choose one of cnn, ffnn."
