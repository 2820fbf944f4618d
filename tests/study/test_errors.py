import pytest

from study.errors import StudyError, causes, interruptions_told


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


@pytest.mark.parametrize("number", [(), (15,)])
def test_what_a_library_makes_of_an_interruption_is_the_interruption(number: tuple[int, ...]):
    with pytest.raises(KeyboardInterrupt) as told, interruptions_told():
        raised(KeyboardInterrupt(*number), AssertionError("Trying to pop empty mode stack"))
    assert told.value.args == number


def test_what_is_no_interruption_stays_what_it_is():
    with pytest.raises(AssertionError, match="a bug"), interruptions_told():
        raised(ValueError("another"), AssertionError("a bug"))
    with pytest.raises(KeyboardInterrupt), interruptions_told():
        raise KeyboardInterrupt
    # What was found while the run was being closed, such as a full disk, is what the user can mend.
    with pytest.raises(StudyError, match="make room"), interruptions_told():
        raised(KeyboardInterrupt(), StudyError("make room"))


def test_the_end_of_an_iterator_passes():
    def ended():
        with interruptions_told():
            next(iter(()))

    with pytest.raises(StopIteration):
        ended()
