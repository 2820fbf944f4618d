import base64
import io
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from analysis.page import Section, page

VOID = {"meta", "img", "br", "source"}


class PageParser(HTMLParser):
    """Collects the text and the attributes of a page, and checks that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def png() -> bytes:
    file = io.BytesIO()
    Figure(figsize=(3, 1)).savefig(file, dpi=150)
    return file.getvalue()


def test_a_page_holds_its_facts_links_sections_and_images(png):
    section = Section("How good?", "It is 71 %.", pd.DataFrame({"f1": [0.5]}), png, "a curve", "metrics.csv")
    read = PageParser(
        page(
            "Run 3",
            "What it learned",
            {"Part 1": [section]},
            facts={"dataset": "cifar10"},
            links={"The run": "http://localhost/#/a"},
        )
    )
    for words in ("Run 3", "What it learned", "dataset", "cifar10", "How good?", "It is 71 %.", "f1", "0.500"):
        assert words in read.words
    assert [link["href"] for link in read.all("a")] == ["http://localhost/#/a", "metrics.csv"]
    (image,) = read.all("img")
    assert image["alt"] == "a curve"
    assert image["width"] == "300"
    kind, data = str(image["src"]).split(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (450, 150)


def test_of_an_animation_a_frame_is_embedded_and_the_file_is_named_and_linked():
    section = Section("h", "t", png=picture(3), gif="moving.gif", alt="it moves", link=("more", "more.html"))
    read = PageParser(page("t", "l", {"p": [section]}))
    (image,) = read.all("img")
    assert image["alt"] == "it moves"
    assert image["data-animation"] == "moving.gif"
    assert "width" not in image
    assert str(image["src"]).startswith("data:image/webp;base64,")
    assert [link["href"] for link in read.all("a")] == ["moving.gif", "more.html"]
    assert "more" in read.words


def test_of_an_animation_for_narrow_screens_the_frame_is_shown_until_it_is_loaded():
    narrow = ("narrow/it.png", picture(3))
    read = PageParser(
        page(
            "t",
            "l",
            {"p": [Section("h", "t", png=picture(3), gif="it.gif", narrow=narrow, narrow_gif="narrow/it.gif")]},
        )
    )
    [source] = read.all("source")
    assert (source["srcset"], source["data-animation"]) == ("narrow/it.png", "narrow/it.gif")
    assert (source["width"], source["height"]) == ("300", "40")


def picture(colours: int) -> bytes:
    """A PNG picture of 450 x 60 pixels with so many colours."""
    numbers = np.arange(450 * 60).reshape(60, 450) % colours
    pixels = np.stack([numbers % 256, numbers // 256, numbers % 7], axis=-1).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def embedded(png: bytes) -> tuple[str, Image.Image]:
    """The kind of picture that the page holds, and the picture."""
    (image,) = PageParser(page("t", "l", {"p": [Section("h", "t", png=png)]})).all("img")
    kind, data = str(image["src"]).split(",")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(("colours", "kept", "most"), [(200, 200, 0), (2_000, 256, 20), (25_000, 25_000, 0)])
def test_a_figure_is_embedded_with_a_palette_and_a_photograph_without_loss(colours: int, kept: int, most: int):
    png = picture(colours)
    kind, shown = embedded(png)
    assert kind == "data:image/webp;base64"
    assert len(shown.convert("RGB").getcolors(30_000)) == kept
    original = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    assert abs(np.asarray(shown.convert("RGB")).astype(int) - original).max() <= most


@pytest.mark.parametrize(
    ("width", "beside", "shown", "wide"),
    [(1200, True, "img", 300), (390, True, "source", 200), (390, False, "img", 300)],
)
def test_a_narrow_screen_shows_the_figure_that_was_drawn_for_it_where_it_lies_beside_the_page(
    browser: Chrome, png: bytes, tmp_path: Path, width: int, beside: bool, shown: str, wide: int
):
    narrow = io.BytesIO()
    Figure(figsize=(2, 3)).savefig(narrow, dpi=150)
    if beside:
        (tmp_path / "narrow.png").write_bytes(narrow.getvalue())
    drawn = Section("h", "t", png=png, narrow=("narrow.png", narrow.getvalue()))
    (tmp_path / "page.html").write_text(page("t", "l", {"p": [drawn, Section("h", "t", png=wide_picture())]}))
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.get((tmp_path / "page.html").as_uri())
        image, fallback = browser.find_elements(By.TAG_NAME, "img")
        WebDriverWait(browser, 20).until(lambda _: image.get_property("complete") and image.rect["width"] == wide)
        assert browser.execute_script("return document.scrollingElement.scrollWidth") <= width
        source = (tmp_path / "narrow.png").as_uri()
        assert image.get_property("currentSrc") == {"img": image.get_attribute("src"), "source": source}[shown]
        # A figure without a narrow one is made to fit.
        assert fallback.rect["width"] <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_place_of_a_figure_for_narrow_screens_is_kept_until_it_is_loaded(png: bytes):
    read = PageParser(page("t", "l", {"p": [Section("h", "t", png=png, narrow=("narrow/a.png", picture(200)))]}))
    (source,) = read.all("source")
    assert (source["srcset"], source["width"], source["height"]) == ("narrow/a.png", "300", "40")


@pytest.mark.parametrize(("width", "closed"), [(1200, False), (390, True)])
def test_on_a_narrow_screen_all_parts_but_the_first_are_closed_until_a_link_leads_to_them(
    browser: Chrome, tmp_path: Path, width: int, closed: bool
):
    parts = {name: [Section(f"heading {name}", "t")] for name in "abc"}
    (tmp_path / "page.html").write_text(page("t", "l", parts))
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.get((tmp_path / "page.html").as_uri())
        headings = browser.find_elements(By.TAG_NAME, "h3")
        assert [heading.is_displayed() for heading in headings] == [True, not closed, not closed]
        browser.find_element(By.LINK_TEXT, "b").click()
        WebDriverWait(browser, 20).until(lambda _: headings[1].is_displayed())
        assert headings[2].is_displayed() is not closed
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def wide_picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (1500, 300)).save(content, "png")
    return content.getvalue()


def test_points_stand_below_the_caption_and_a_long_note_is_folded_up():
    html = page("t", "l", {"p": [Section("h", "Said.", points=["One.", "Two."], note="Short.")]})
    assert html.index("Said.") < html.index("<li>One.</li><li>Two.</li>") < html.index('<p class="note">Short.</p>')
    folded = page("t", "l", {"p": [Section("h", "Said.", note="word " * 40)]})
    assert '<details class="note"><summary>How to read it</summary>' in folded


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", "\" onerror='alert(1)' &", "</title></style></script><b>", "{{ 7 * 6 }}"]
)
def test_every_text_is_escaped(png, bad: str):
    section = Section(bad, bad, pd.DataFrame({bad: [bad]}), png, bad, bad, bad, (bad, bad), [bad], bad)
    text = page(bad, bad, {bad: [section], "p": []}, facts={bad: bad}, links={bad: bad}, notices=[bad])
    read, plain = PageParser(text), PageParser(page("t", "l", {}))
    assert read.words.count(bad) == 16
    assert {image["alt"] for image in read.all("img")} == {bad}
    assert [link["href"] for link in read.all("a")] == ["#part-1", "#part-2", bad, bad, bad, bad]
    assert not {"onerror", "b"} & {name for tag, attributes in read.tags for name in (tag, *attributes)}
    assert len(read.all("script")) == len(plain.all("script")) == 1


def test_the_style_and_the_script_are_in_the_page_as_they_are_in_their_files():
    text = page("t", "l", {})
    for kind in ("css", "js"):
        assert files("analysis").joinpath(f"page.{kind}").read_text(encoding="utf-8") in text


def test_a_page_fetches_nothing(png):
    read = PageParser(page("t", "l", {"p": [Section("h", "t", png=png)]}))
    assert not {"link", "iframe"} & {tag for tag, _ in read.tags}
    assert not [script for script in read.all("script") if "src" in script]
    assert all(str(image["src"]).startswith("data:") for image in read.all("img"))


def test_parts_that_are_absent_leave_nothing_empty_behind():
    read = PageParser(page("t", "l", {"p": [Section("h", "")]}))
    assert not {"dl", "nav", "table", "figure", "a"} & {tag for tag, _ in read.tags}
    assert len(read.all("p")) == 1


def test_tables_show_numbers_for_reading():
    table = pd.DataFrame(
        {
            "images": [10_000],
            "f1": [0.70649],
            "rate": [5.18e-4],
            "none": [np.nan],
            "best": [True],
            "split_name": ["test"],
            "my_network recall": [0.5],
        }
    )
    read = PageParser(page("t", "l", {"p": [Section("h", "", table)]}))
    for words in ("10,000", "0.706", "0.000518", "–", "True", "split name", "test", "my_network recall"):
        assert words in read.words


def test_an_empty_table_is_not_shown():
    text = page("t", "l", {"p": [Section("h", "None is equal.", pd.DataFrame({"kind": []}))]})
    assert "None is equal." in text
    assert "<table" not in text


def test_the_parts_are_the_contents_and_what_is_missing_is_said_before_them():
    parts = {"First": [Section("a", "Type `study data`.")], "Second": [Section("b", "")]}
    text = page("t", "l", parts, notices=["One file is missing."])
    read = PageParser(text)
    targets = [link["href"] for link in read.all("a")]
    assert targets == [f"#{part['id']}" for part in read.all("div") if "id" in part]
    assert text.index("One file is missing.") < text.index("<nav>") < text.index("<h3>a<") < text.index("<h3>b<")
    assert "<code>study data</code>" in text
