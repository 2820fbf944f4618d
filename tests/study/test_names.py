import pytest

from study.errors import StudyError
from study.names import LONGEST_NAME, require_name


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "two\nlines", "a'b", 'a"b', "..", ".", " "])
def test_a_search_cannot_have_a_name_that_no_file_can_have_or_no_filter_can_hold(name: str):
    with pytest.raises(StudyError, match=r"^The search (name|has an empty name)"):
        require_name(name)


def test_the_longest_name_is_counted_in_bytes():
    require_name("ä" * (LONGEST_NAME // 2))
    with pytest.raises(StudyError, match=f"it may have at most {LONGEST_NAME}"):
        require_name("ä" * (LONGEST_NAME // 2) + "a")
