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
    assert list(parts) == list(outline.parts())[:2]


def test_every_name_stands_once_and_every_part_in_one_piece():
    assert len(set(outline.names())) == len(outline.names())
    assert [name for part in outline.parts().values() for name in part] == outline.names()
