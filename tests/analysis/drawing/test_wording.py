import numpy as np

from analysis.drawing import wording


def test_words_are_listed_with_and_before_the_last():
    assert [wording.listed(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_many_names_are_cut_to_a_few_and_a_number():
    assert wording.first_few(["a", "b"]) == "a, b"
    assert wording.first_few(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_those_that_tie_are_all_named_where_they_are_few():
    assert [wording.several(list("abcdef")[:count]) for count in (1, 2, 4)] == ["a", "a and b", "a, b, c and d"]
    assert wording.several(list("abcdef")) == "a, b, c and 3 more"


def test_a_class_name_that_is_not_one_word_stands_in_quotation_marks():
    names = ("cat", "Zwerg-Pudel", "8", "a cat", "traffic_light", "")
    assert wording.all_quoted(names) == ["cat", "Zwerg-Pudel", "“8”", "“a cat”", "“traffic_light”", "“”"]


def test_a_probability_is_not_rounded_to_certainty():
    shares = (0, 0.0004, 0.0006, 0.5, 0.9994, 0.99996, 1)
    texts = ["0.0%", "under 0.1%", "0.1%", "50.0%", "99.9%", "over 99.9%", "100.0%"]
    assert [wording.probability(share) for share in shares] == texts


def test_one_is_counted_without_an_s():
    assert [wording.counted(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    several = [wording.counted(1000, noun) for noun in ("epoch", "search", "process")]
    assert several == ["1,000 epochs", "1,000 searches", "1,000 processes"]


def test_a_name_loses_its_end_or_its_middle_only_where_it_is_too_long():
    assert wording.without_end("airplane", 8) == wording.without_middle("airplane", 8) == "airplane"
    assert wording.without_end("automobile", 8) == "automob…"
    assert wording.without_end("a long name", 7) == "a long…"
    assert wording.all_without_end(["automobile", "cat"], 8) == ["automob…", "cat"]
    assert wording.all_without_end(["a long name", "a long road"], 8) == ["a lon…me", "a lon…ad"]
    assert wording.without_middle("kind one of two", 9) == "kind …two"


def test_a_negative_number_gets_a_minus_sign_and_its_exponent_none():
    assert [wording.with_minus(f"{number:.2g}") for number in (-0.25, 3, -1e-9)] == ["−0.25", "3", "−1e-09"]


def test_a_mean_is_said_with_its_deviation_where_there_is_one():
    assert wording.mean_phrase(0.7123, 0.004, "{:.1f}", 100) == "71.2 ± 0.4"
    assert wording.mean_phrase(3, np.nan, "{:.0f}") == "3"
    assert wording.mean_phrase(np.nan, np.nan, "{:.0f}") == "–"


def test_the_reports_networks_are_abbreviations_and_others_have_names():
    assert [wording.model_label(name) for name in ("cnn", "ffnn", "resnet18")] == ["CNN", "FFNN", "resnet18"]


def test_wide_characters_and_boxes_for_those_that_no_font_has_take_the_room_of_two():
    assert wording.width("翠鳥 1") == 6
    assert wording.width("\U00014fff" * 4) == 8
    assert wording.without_end("翠鳥翠鳥", 7) == "翠鳥翠…"
    assert wording.without_middle("翠鳥翠鳥翠", 9) == "翠鳥…翠"
