import pandas as pd

from analysis.images.duplicates import caption, show

COUNTS = {"test images equal to a training image": (1, 4), "images in two classes": (2, 1000)}
DUPLICATES = pd.DataFrame({"group": [0, 0], "image": ["train:3", "test:0"], "class": ["cat", "cat"]})


def test_the_caption_has_every_count():
    assert caption(COUNTS, 1000) == (
        "There are 1 of 4 test images equal to a training image and 2 of 1,000 images in two classes."
    )


def test_the_exhibit_holds_the_counts_and_the_images():
    exhibit = show(COUNTS, DUPLICATES, 1000)
    assert exhibit.table is not None
    assert exhibit.table.to_numpy().tolist() == [[kind, *numbers] for kind, numbers in COUNTS.items()]
    assert exhibit.tables["duplicate_images"].equals(DUPLICATES)


def test_without_duplicates_there_is_one_sentence_alone():
    exhibit = show({}, DUPLICATES[:0], 60000)
    assert exhibit.text == "No two of the 60,000 images are equal."
    assert exhibit.tables == {}
