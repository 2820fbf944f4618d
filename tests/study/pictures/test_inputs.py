"""What people send to a model becomes the pixels that they mean, or a sentence says why it does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from study.pictures.inputs import as_images
from tests.support.photos import FORMS, PIXELS, png, text


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_photo_gives_its_pixels(form: str, tmp_path: Path):
    [image] = as_images(FORMS[form](tmp_path))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_images_of_several_sizes_keep_their_order():
    others = [PIXELS[:10], text(PIXELS[:20]), Image.fromarray(PIXELS[:30]), png(PIXELS[:5]), PIXELS.tolist()]
    assert [image.height for image in as_images(others)] == [10, 20, 30, 5, 40]
    assert [image.height for image in as_images([PIXELS.tolist(), PIXELS[:7].tolist()])] == [40, 7]
    assert as_images([]) == as_images(np.empty((0, 8, 8, 3))) == []


def test_grey_is_grey_and_what_is_transparent_is_white():
    grey, clear = PIXELS[:, :, :1], np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    np.testing.assert_array_equal(np.asarray(as_images(grey)[0]), np.repeat(grey, 3, 2))
    assert (np.asarray(as_images(clear)[0]) == 255).all()
    assert np.asarray(as_images(np.zeros((4, 4, 3), int))[0]).max() == 0


WRONG: dict[str, tuple[Any, str]] = {
    "floats of 0–255": (PIXELS.astype(float), "Floats are 0–1, and these go from 0 to 255: send .* as uint8"),
    "normalised floats": (PIXELS / 127.5 - 1, "Floats are 0–1, and these go from -1 to 1"),
    "a number that is none": (np.full((4, 4, 3), np.nan), "from nan to nan"),
    "16 bits": (PIXELS.astype(np.uint16) * 257, "Whole numbers are 0–255, and these go from 0 to .*65535|6.554e"),
    "negative": (PIXELS.astype(int) - 128, "go from -128 to 127"),
    "whole numbers on either scale": (np.eye(6, dtype=int).reshape(4, 3, 3), "may be on either scale"),
    "a mask": (PIXELS > 99, "An array of bool is no image"),
    "grey or rows": (PIXELS[:, :, 0], r"shape \(40, 56\) is not an image for certain: send H×W×3 \(of a grey image"),
    "channels first, or three grey images": (PIXELS.transpose(2, 0, 1), r"shape \(3, 40, 56\) is not an image"),
    "flat": (PIXELS.ravel().tolist(), r"shape \(6720,\)"),
    "no pixels": (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
    "no file": ("cat.jpg", "'cat.jpg' is neither the path of a file nor an image in base64"),
    "base64 of something else": ("photos12", "'photos12' cannot be read as an image"),
    "half a file": (png()[:200], "A file of 200 bytes cannot be read as an image"),
    "nothing": (None, "None is no image"),
    "a missing value": (pd.Series([None, ""]), "nan is no image"),
    "columns": (pd.DataFrame({"a": [1], "b": [2]}), "Of the 2 columns a, b, none is called 'image'"),
    "a batch in a row": ([PIXELS[None].repeat(2, 0)], "holds 2 images instead of one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_or_ambiguous_is_refused_in_a_sentence(case: str):
    data, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as refusal:
        as_images(data)
    assert len(str(refusal.value)) < 300
    assert str(refusal.value).endswith(".")


def test_a_text_is_no_path_where_files_are_not_to_be_read(tmp_path: Path):
    (tmp_path / "photo.png").write_bytes(png())
    with pytest.raises(ValueError, match="is not an image in base64"):
        as_images(str(tmp_path / "photo.png"), files=False)
    assert len(as_images(text(), files=False)) == 1
