import pytest

from study.errors import StudyError
from study.ranges import Choices, least_accuracy


@pytest.mark.parametrize(
    ("text", "values", "is_range", "step"),
    [
        ("3,5,7", (3, 5, 7), False, 2),
        (" 7, 3 ,5,3", (3, 5, 7), False, 2),
        ("0,100,500", (0, 100, 500), False, None),
        ("4", (4,), False, 1),
        ("-1", (-1,), False, 1),
        ("max, average", ("max", "average"), False, None),
        ("3,five", ("3", "five"), False, None),
        ("--3", ("--3",), False, None),
        ("8:64", (8, 64), True, None),
        (" 8 : 8 ", (8, 8), True, None),
    ],
)
def test_choices_are_read_as_written(text: str, values: tuple[object, ...], is_range: bool, step: int | None):
    choices = Choices.parse(text, "--kernel")
    assert (choices.values, choices.is_range, choices.step) == (values, is_range, step)
    assert choices.is_fixed == (len(set(values)) == 1)
    assert Choices.parse(str(choices), "--kernel") == choices


@pytest.mark.parametrize("text", ["", "3,", ",", "64:8", "0:8", "-3:8", "8:", ":8", "1.5:2", "a:b", "8:64:2"])
def test_a_text_that_is_no_choice_is_named_with_its_option(text: str):
    with pytest.raises(StudyError, match="--filters is") as raised:
        Choices.parse(text, "--filters")
    assert repr(text) in str(raised.value)
    assert "8:64" in str(raised.value)


@pytest.mark.parametrize(
    "prefer", ["parameters", "parameters:", "parameters:x", "parameters:1.5", "size:0.7", "parameters:nan"]
)
def test_a_preference_that_means_nothing_is_named_with_the_choices(prefer: str):
    with pytest.raises(StudyError, match=r"parameters:0\.70") as error:
        least_accuracy(prefer)
    assert repr(prefer) in str(error.value)
