from analysis.drawing.class_styles import class_fills, class_lines


def test_no_two_classes_of_a_hundred_look_the_same():
    names = [str(number) for number in range(100)]
    for looks in (class_lines(names), class_fills(names)):
        assert list(looks) == names
        assert len({repr(look) for look in looks.values()}) == 100


def test_the_lines_of_ten_classes_differ_in_more_than_colour():
    looks = class_lines([str(number) for number in range(10)])
    assert {look["linestyle"] for look in list(looks.values())[:5]}.isdisjoint(
        look["linestyle"] for look in list(looks.values())[5:]
    )
