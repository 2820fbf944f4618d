import pytest

from study.errors import causes


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
