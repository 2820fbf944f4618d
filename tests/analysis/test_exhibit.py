import pandas as pd
from matplotlib.figure import Figure

from analysis.exhibit import Exhibit

TABLE, READABLE = pd.DataFrame({"a": [0.5]}), pd.DataFrame({"A": ["50 %"]})


def test_a_table_is_shown_as_people_read_it_and_below_a_figure_only_where_that_is_given():
    assert Exhibit("a", "A", "", TABLE).readable is TABLE
    assert Exhibit("a", "A", "", TABLE, shown=READABLE).readable is READABLE
    assert Exhibit("a", "A", "", TABLE, Figure()).readable is None
    assert Exhibit("a", "A", "", TABLE, Figure(), READABLE).readable is READABLE


def test_the_picture_in_words_has_one_mark_after_its_heading():
    assert Exhibit("a", "How?", "So.").alt == "How? So."
    assert Exhibit("a", "How", "So.").alt == "How. So."


def test_all_that_it_says_is_a_line_each():
    assert (
        Exhibit("a", "A", "Said.", points=["One.", "Two."], note="Noted.").in_words == "Said.\n- One.\n- Two.\nNoted."
    )
