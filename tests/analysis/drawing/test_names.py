import pytest

from analysis.drawing.names import numbered_notice, printable, readable_names

MIAO = "\U00016f00"
"""A letter that hardly any machine has a font for."""
LONG = "z" * 60


def test_ordinary_names_stay_as_they_are_and_nothing_is_said():
    names = ("cat", "_background_", "$x_{1}$", "naïve cafe\u0301", "שלום", "مرحبا", "<b>", "-1", "y" * 300)
    shown = readable_names(names)
    assert list(shown.items()) == [(name, name) for name in names]
    assert numbered_notice(shown) == ""


@pytest.mark.parametrize(
    ("name", "line"),
    [("new\nline", "new line"), ("tab\there", "tab here"), ("bell\x07", "bell"), ("\u202egac", "gac"),
     (" a  b ", "a b"), ("\x1b[31mred", "[31mred"), ("a\u2028b", "a b"), ("\udc80", "\ufffd")],
)  # fmt: skip
def test_a_name_is_shown_on_one_line_without_control_characters(name: str, line: str):
    assert printable(name) == line
    assert readable_names(["cat", name]) == {"cat": "cat", name: line}


@pytest.mark.parametrize("name", [" ", "   ", "\t", "\u200b", "\x07", "\u3000"])
def test_a_blank_name_gets_its_number(name: str):
    shown = readable_names(["cat", name])
    assert shown == {"cat": "cat", name: "1: (blank)"}
    assert numbered_notice(shown) == (
        "Numbers stand before 1 class name that figures cannot show or tell apart: 1: (blank)."
    )


@pytest.mark.parametrize(
    "names",
    [("a b", "a\nb"), ("caf\u00e9", "cafe\u0301"), ("x\u200by", "xy"), (f"{LONG}1{LONG}", f"{LONG}2{LONG}")],
)  # fmt: skip
def test_names_that_look_alike_get_their_numbers(names: tuple[str, str]):
    shown = readable_names(["cat", *names])
    assert shown["cat"] == "cat"
    assert [shown[name] for name in names] == [f"{place}: {printable(name)}" for place, name in enumerate(names, 1)]


def test_a_name_like_that_of_another_class_with_its_number_gets_its_own():
    names = ["cat", "cat ", "0: cat", "dog", "4: 0: cat"]
    assert list(readable_names(names).values()) == ["0: cat", "1: cat", "2: 0: cat", "dog", "4: 0: cat"]


@pytest.mark.slow
def test_names_that_no_font_can_draw_get_their_numbers_and_one_line_says_so():
    names = ["cat", MIAO, MIAO * 2]
    shown = readable_names(names)
    assert list(shown.values()) == ["cat", f"1: {MIAO}", f"2: {MIAO * 2}"]
    notice = numbered_notice(shown)
    assert f"2 class names that figures cannot show or tell apart (no installed font has {MIAO})" in notice
    assert f"1: {MIAO}, 2: {MIAO * 2}." in notice
    assert "\n" not in notice


def test_no_two_names_of_a_hundred_are_shown_alike():
    names = [" " * count for count in range(1, 51)] + [MIAO + "\u200d" * count for count in range(50)]
    assert len(set(readable_names(names).values())) == 100
