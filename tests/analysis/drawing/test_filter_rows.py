import pytest

from analysis.drawing.filter_rows import in_rows, named


@pytest.mark.parametrize(("count", "lengths"), [(0, [0]), (1, [1]), (32, [32]), (33, [17, 16]), (64, [32, 32])])
def test_rows_are_few_full_and_in_order(count: int, lengths: list[int]):
    rows = in_rows(range(count), 32)
    assert [len(row) for row in rows] == lengths
    assert [number for row in rows for number in row] == list(range(count))


def test_rows_hold_every_filter_once_however_they_divide():
    for count in range(1, 200):
        rows = in_rows(range(count), 7)
        assert [number for row in rows for number in row] == list(range(count))
        assert all(0 < len(row) <= 7 for row in rows)


def test_filters_that_are_left_out_are_named():
    assert named([3, 5], "filters change nothing") == "2 filters change nothing: 3, 5"
    assert named([], "filters change nothing") == ""
    assert named([7], "filters change nothing") == "1 filter changes nothing: 7"
    lines = named(range(64), "silent", 90).splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(lines).endswith("62, 63")
