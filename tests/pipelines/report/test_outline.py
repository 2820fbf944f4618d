import pytest

from pipelines.report import outline
from study.errors import StudyError


def test_a_figure_may_be_called_as_its_file_is():
    files = ("correlation", "covariance", "kernel_conv2_filter12", "table2_intervals")
    assert outline.names_of(files) == ("covariance", "kernel_conv2", "table2")
    with pytest.raises(StudyError, match=r"'fog_filter2'.*confusion"):
        outline.names_of(["fog_filter2"])


def test_the_steps_are_put_in_the_order_of_the_page_and_empty_parts_are_left_out():
    parts = outline.by_part({"roc": 1, "samples": 2, "table2": 3})
    assert [list(within) for within in parts.values()] == [["table2", "roc"], ["samples"]]
    assert list(parts) == list(outline.PARTS)[:2]


def test_every_name_stands_once_and_what_needs_images_is_among_them():
    assert len(set(outline.NAMES)) == len(outline.NAMES)
    filters = {"conv1": 0, "conv2": 0}
    assert outline.from_images(filters) | outline.from_image(filters) <= set(outline.NAMES)
    assert outline.from_image({}) == set()
    assert not [name for name in outline.from_image({"conv2": 0}) if name.endswith("conv1")]
