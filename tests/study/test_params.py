import pytest

from study.config import DataConfig, TrainConfig
from study.errors import StudyError
from study.params import recorded
from tests.study.test_config import AS_RECORDED

RECORDED = {name: str(value) for name, value in vars(DataConfig()).items()}
"""The settings of the images as a run has them."""


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("true", True), ("1", True), ("False", False), ("FALSE", False), ("0", False)],
)
def test_a_recorded_truth_value_is_read_as_what_it_says(text: str, value: bool):
    assert recorded(DataConfig, {**RECORDED, "skip_unreadable": text})["skip_unreadable"] is value


@pytest.mark.parametrize("text", ["", "yes", "None", "2", " True"])
def test_what_is_neither_true_nor_false_is_refused(text: str):
    with pytest.raises(StudyError, match=r"neither true nor false: it must be one of true, false, 1, 0\.$") as raised:
        recorded(DataConfig, {**RECORDED, "skip_unreadable": text})
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("kernel", "five"), ("filters", "32"), ("filters", "[1, {}]"), ("learning_rate", ""), ("seed", "1.5")],
)
def test_a_malformed_setting_is_named_with_its_value(name: str, text: str):
    with pytest.raises(StudyError) as raised:
        TrainConfig.from_params({**AS_RECORDED, name: text})
    assert str(raised.value) == f"The param {name} is {text!r}, which is no value of it."
