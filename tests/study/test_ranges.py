import pytest

from study.architectures import CNNConfig, CustomConfig
from study.errors import StudyError
from study.ranges import Choices, least_accuracy, option_of


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
        ("0:0.2", (0.0, 0.2), True, None),
        ("0,0.2", ("0", "0.2"), False, None),
    ],
)
def test_choices_are_read_as_written(text: str, values: tuple[object, ...], is_range: bool, step: int | None):
    choices = Choices.parse(text, "--kernel")
    assert (choices.values, choices.is_range, choices.step) == (values, is_range, step)
    assert choices.is_fixed == (len(set(values)) == 1)
    assert Choices.parse(str(choices), "--kernel") == choices


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("0,0.1,0.2", float, (0.0, 0.1, 0.2)),
        ("0.2,0", float, (0.0, 0.2)),
        ("1", float, (1.0,)),
        ("0:1", float, (0.0, 1.0)),
        ("1e-5:0.1", float, (1e-5, 0.1)),
        ("8:64", int, (8, 64)),
        ("true,False", bool, (False, True)),
        ("3,5", str, ("3", "5")),
    ],
)
def test_choices_have_the_type_of_their_field(text: str, kind: type, values: tuple[object, ...]):
    choices = Choices.parse(text, "--smoothing", kind)
    assert (choices.values, {type(value) for value in choices.values}) == (values, {kind})
    assert Choices.parse(str(choices), "--smoothing", kind) == choices


@pytest.mark.parametrize("kind", [None, int])
@pytest.mark.parametrize("text", ["", "3,", ",", "64:8", "0:8", "-3:8", "8:", ":8", "a:b", "8:64:2", "1.5:1"])
def test_a_text_that_is_no_choice_is_named_with_its_option(text: str, kind: type | None):
    with pytest.raises(StudyError, match="--filters is") as raised:
        Choices.parse(text, "--filters", kind)
    assert repr(text) in str(raised.value)
    assert "8:64" in str(raised.value)


WRONG = {
    ("1.5:2", int): "a range of whole numbers",
    ("3,0.5", int): "'0.5' is not a whole number",
    ("0.2:0", float): "a range (0:0.2)",
    ("-1:1", float): "a range (0:0.2)",
    ("0:inf", float): "a range (0:0.2)",
    ("0,much", float): "'much' is not a number",
    ("0,nan", float): "nan is not finite",
    ("true,perhaps", bool): "'perhaps' is not true or false",
    ("true,", bool): "write one value, or several (a,b)",
}


@pytest.mark.parametrize(("text", "kind"), WRONG)
def test_a_value_of_another_type_is_named_with_its_option(text: str, kind: type):
    with pytest.raises(StudyError) as raised:
        Choices.parse(text, "--smoothing", kind)
    assert str(raised.value).startswith(f"--smoothing is {text!r}: ")
    assert WRONG[text, kind] in str(raised.value)


def test_options_are_named_as_they_are_typed():
    names = ("filters1", "filters2", "warmup_steps", "schedule", "label_smoothing")
    options = ["--filters", "--filters", "--warmup", "--schedule", "--label-smoothing"]
    assert [option_of(name, CNNConfig()) for name in names] == options
    own = CustomConfig(model_path="a:b", arguments={"drop_rate": 0.1})
    assert [option_of(name, own) for name in ("drop_rate", "warmup_steps")] == ["--argument drop_rate", "--warmup"]


@pytest.mark.parametrize(
    "prefer", ["parameters", "parameters:", "parameters:x", "parameters:1.5", "size:0.7", "parameters:nan"]
)
def test_a_preference_that_means_nothing_is_named_with_the_choices(prefer: str):
    with pytest.raises(StudyError, match=r"parameters:0\.70") as error:
        least_accuracy(prefer)
    assert repr(prefer) in str(error.value)
