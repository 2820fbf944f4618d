"""The explorer in a browser: its pixels are those that torch and matplotlib make of the same weights."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from analysis.drawing.wording import quoted
from analysis.explorer import page
from pipelines.report.explanations import explorer_shares
from pipelines.report.measurements import pictures, trace
from study.architectures import CNNConfig
from study.data import Dataset, Labelled, normalise
from study.probes.circuit import background, rival_of
from tests.support.accessibility import violations
from tests.support.explored import DEAD, Expected, chosen, trained

LONG = (
    'a class with quite a long name & "quotes"',
    "</script><b>bold</b><!--",
    "Donaudampfschifffahrtsgesellschaftskapitän",
)
TITLE = '</script><img src=x onerror=alert(1)> & "more"'
LIMIT = 2
SMALL = CNNConfig(filters=(12, 16))
"""The network of the tests that are not about its maps: a page of the report's takes ten times as long to draw."""


@dataclass(frozen=True)
class Shown:
    browser: Chrome
    expected: Expected
    file: Path

    def open(self, state: str = "") -> None:
        # Addresses that differ only after the # would not load anew.
        self.browser.get("about:blank")
        self.browser.get(self.file.as_uri() + (f"#{state}" if state else ""))
        self.wait()

    def wait(self, drawn: str = "") -> None:
        """Until this is drawn: layer, filter, epoch and image."""
        read = "return document.documentElement.dataset.drawn ?? ''"
        WebDriverWait(self.browser, 60).until(lambda browser: browser.execute_script(read).startswith(drawn or "conv"))

    def go(self, state: str) -> None:
        """Shows another state of the open page."""
        self.browser.execute_script("location.hash = arguments[0]", state)

    def pixels(self, selector: str) -> np.ndarray:
        """(height, width, 4)."""
        return self.all_pixels(selector)[0]

    def all_pixels(self, selector: str) -> list[np.ndarray]:
        """The pixels of each canvas that the selector finds, read at once, since each call takes long."""
        script = """return [...document.querySelectorAll(arguments[0])].map((canvas) => {
            const {width, height} = canvas;
            const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            let text = ""; for (const byte of data) text += String.fromCharCode(byte);
            return [width, height, btoa(text)];
        });"""
        return [
            np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
            for width, height, data in self.browser.execute_script(script, selector)
        ]

    def note(self, selector: str) -> str:
        return self.browser.execute_script(f"return document.querySelector({json.dumps(selector)}).textContent")

    def check(self, layer: str, filter: int, epoch: int) -> None:
        """The kernel, and every map of every image, are drawn in the colours that they should have."""
        self.wait(f"{layer} {filter} {epoch} ")
        for name in page.MAPS[layer]:
            drawn_maps = self.all_pixels(f'canvas[data-map="{name}"]')
            assert len(drawn_maps) == len(self.expected.images)
            for image, drawn in enumerate(drawn_maps):
                close(drawn, self.expected.map(name, filter, epoch, image), f"{name} of image {image}")
        kernel = self.expected.kernel(layer, filter, epoch)
        for channel, (drawn, expected) in enumerate(zip(self.all_pixels("#kernel canvas"), kernel, strict=True)):
            close(drawn, expected, f"channel {channel}")


def close(drawn: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert drawn.shape[:2] == expected.shape[:2], what
    assert (drawn[..., 3] == 255).all()
    assert np.abs(drawn[..., :3].astype(int) - expected).max() <= LIMIT, what


@pytest.fixture(scope="module")
def explored(browser: Chrome, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Shown]:
    pages: dict[object, Shown] = {}

    def make(
        config: CNNConfig = SMALL,
        classes: tuple[str, ...] = tiny.classes,
        epochs: int = 3,
        side: int = 32,
    ) -> Shown:
        if (config, classes, epochs, side) not in pages:
            train, test = (_resized(part, side) for part in (tiny.train, tiny.test))
            network = trained(config, train, classes, epochs)
            images = chosen(test, 3, classes)
            shares = explorer_shares(network, images, train) if len(network.files) > 1 else None
            html = page.page(
                replace(trace(network, images), shares=shares),
                pictures(images),
                classes,
                title=TITLE,
                start=("conv1", min(2, config.filters[0])),
            )
            file = tmp_path_factory.mktemp("explorer") / "explorer.html"
            file.write_text(html, encoding="utf-8")
            pages[config, classes, epochs, side] = Shown(browser, Expected.of(network, images), file)
        return pages[config, classes, epochs, side]

    return make


def _resized(images: Labelled, side: int) -> Labelled:
    nearest = torch.arange(side) * images.images.shape[-1] // side
    return replace(images, images=images.images[..., nearest, :][..., nearest].contiguous())


@pytest.fixture(autouse=True)
def quiet(browser: Chrome) -> Iterator[None]:
    """Nothing that the page does is an error."""
    browser.get_log("browser")
    yield
    # The tests read canvases often, about which there is a warning.
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def keys(browser: Chrome, *pressed: str) -> None:
    chain = ActionChains(browser)
    for key in pressed:
        chain.send_keys(key)
    chain.perform()


CONFIGS = [
    CNNConfig(),
    CNNConfig(filters=(4, 6), kernel=3, padding=1, dilation=2, pool=3),
    CNNConfig(filters=(5, 7), kernel=4, padding=0, stride=2),
    CNNConfig(filters=(4, 6), pool=3, pooling="average"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_drawn_pixels_are_those_of_torch_and_matplotlib(explored: Callable[..., Shown], config: CNNConfig):
    shown = explored(config)
    shown.open()
    for layer, filter, epoch in [("conv1", 0, 0), ("conv1", 3, 2), ("conv2", 1, 0), ("conv2", 4, 3), ("conv2", 5, 2)]:
        shown.go(f"layer={layer}&filter={filter}&epoch={epoch}")
        shown.check(layer, filter, epoch)


@pytest.mark.parametrize("side", [21, 48])
def test_images_of_another_size_are_drawn_as_they_are_and_so_are_their_maps(explored: Callable[..., Shown], side: int):
    shown = explored(CNNConfig(filters=(4, 6)), side=side)
    shown.open("layer=conv2&filter=1&epoch=2")
    shown.check("conv2", 1, 2)
    shown.go("layer=conv1&filter=2&epoch=3")
    shown.check("conv1", 2, 3)
    for place, image in enumerate(shown.expected.images):
        drawn = shown.pixels(f'canvas[data-picture="{place}"]')
        assert np.array_equal(drawn[..., :3], image.pixels)


def test_every_filter_of_a_layer_is_in_its_colours_on_the_chosen_image(explored: Callable[..., Shown]):
    shown = explored(CNNConfig())
    shown.open("layer=conv2&filter=7&epoch=2&image=1")
    for filter in (0, 7, 63):
        drawn = shown.pixels(f"#all button:nth-child({filter + 1}) canvas")
        close(drawn, shown.expected.map("relu2", filter, 2, 1), f"filter {filter}")


def test_the_pictures_are_shown_as_they_are(explored: Callable[..., Shown]):
    shown = explored()
    shown.open()
    for place, image in enumerate(shown.expected.images):
        drawn = shown.pixels(f'canvas[data-picture="{place}"]')
        np.testing.assert_array_equal(drawn[..., :3], image.image.permute(1, 2, 0).numpy())


def test_moving_the_controls_redraws(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("layer=conv1&filter=2&epoch=3")
    browser.find_element(By.ID, "conv2").click()
    shown.check("conv2", 2, 3)
    browser.find_element(By.ID, "filter").send_keys(Keys.ARROW_RIGHT)
    shown.check("conv2", 3, 3)
    browser.find_element(By.ID, "epoch").send_keys(Keys.HOME)
    shown.check("conv2", 3, 0)
    browser.find_element(By.CSS_SELECTOR, "#all button:nth-child(16)").click()
    shown.check("conv2", 15, 0)
    browser.find_element(By.ID, "conv1").click()
    shown.check("conv1", 11, 0)
    pick = browser.find_element(By.ID, "pick-2")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pick)
    pick.click()
    shown.wait("conv1 11 0 2")


def test_the_arrow_keys_change_epoch_and_filter(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("layer=conv2&filter=8&epoch=1")
    keys(browser, Keys.ARROW_RIGHT)
    shown.check("conv2", 8, 2)
    keys(browser, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_LEFT)
    shown.check("conv2", 10, 1)
    keys(browser, Keys.ARROW_DOWN, "l")
    shown.check("conv1", 9, 1)
    keys(browser, *[Keys.ARROW_LEFT] * 3)
    shown.check("conv1", 9, 0)
    keys(browser, *[Keys.ARROW_DOWN] * 12)
    shown.wait("conv1 0 0")


def test_the_tabulator_reaches_every_control_and_shows_where_it_is(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open()
    outlined = "return getComputedStyle(document.activeElement).outlineStyle !== 'none'"
    reached: list[str] = []
    while len(reached) < 50:
        keys(browser, Keys.TAB)
        element = browser.switch_to.active_element
        name = element.get_attribute("id") or element.tag_name
        if name in ("body", *reached):
            break
        assert browser.execute_script(outlined), name
        reached.append(name)
    controls = ["conv1", "conv2", "play", "filter", "epoch", "pick-0", "pick-1", "pick-2"]
    assert [name for name in reached if name in controls] == controls
    browser.find_element(By.ID, "pick-1").send_keys(Keys.ENTER)
    browser.find_element(By.ID, "conv2").send_keys(Keys.SPACE)
    shown.wait("conv2 2 3 1")


def test_axe_finds_nothing_wrong(explored: Callable[..., Shown], browser: Chrome):
    explored().open("layer=conv2&filter=8&epoch=3")
    assert violations(browser) == []


def test_playing_ends_at_the_last_epoch(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("layer=conv2&filter=8&epoch=3")
    play = browser.find_element(By.ID, "play")
    # In the page itself: by the time that a driver asks, all may have been played on a busy machine.
    assert browser.execute_script("arguments[0].click(); return arguments[0].textContent", play).strip() == "Pause"
    WebDriverWait(browser, 30).until(lambda _: play.text == "Play")
    shown.check("conv2", 8, 3)


def test_the_space_bar_plays_and_pauses(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("layer=conv1&filter=1&epoch=0")
    play = browser.find_element(By.ID, "play")
    keys(browser, " ", " ")
    WebDriverWait(browser, 10).until(lambda _: play.text == "Play")
    shown.check("conv1", 1, 0)


@pytest.mark.parametrize("layer", list(DEAD))
def test_a_dead_filter_is_flat_and_labelled(explored: Callable[..., Shown], browser: Chrome, layer: str):
    shown = explored()
    shown.open(f"layer={layer}&filter={DEAD[layer]}&epoch=3")
    shown.check(layer, DEAD[layer], 3)
    labels = {name: shown.note(f'.tile:has(canvas[data-map="{name}"]) .note') for name in page.MAPS[layer]}
    convolved, rectified, pooled = page.MAPS[layer]
    assert labels == {convolved: "constant −0.01", rectified: "all 0", pooled: "all 0"}
    assert shown.note("#kernel-tile .note") == "≈ 0"
    for name in page.MAPS[layer]:
        drawn = shown.pixels(f'canvas[data-map="{name}"]')
        assert (drawn == drawn[0, 0]).all()
    health = browser.find_element(By.ID, "health").text
    assert "It is silent on these images: its ReLU is zero everywhere" in health
    assert "its weights have collapsed" in health
    assert shown.note(f"#all button:nth-child({DEAD[layer] + 1}) .note") == "0"


def test_the_epochs_accuracy_stands_beside_it(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("layer=conv1&filter=0&epoch=1")
    assert browser.find_element(By.ID, "state").text == "Epoch 1: test accuracy 30.0 % · conv1, filter 0"
    keys(browser, Keys.ARROW_RIGHT)
    shown.wait("conv1 0 2")
    assert "test accuracy 50.0 %" in browser.find_element(By.ID, "state").text


def test_the_networks_guess_is_that_of_the_epoch(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("epoch=3")
    for place, image in enumerate(shown.expected.images):
        logits = shown.expected.activations[3]["fc"][place].astype(float)
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        best = int(shares.argmax())
        mark = "✓" if best == image.label else "✗"
        guess = shown.note(f"#guess-{place}")
        assert guess == f"{mark} {shares[best] * 100:.0f} % {quoted(shown.expected.network.classes[best])}"


def bars(browser: Chrome, id: str) -> list[tuple[str, float, str]]:
    """The name, the length (0..1) and the number of each row; without a bar the length is 0."""
    read = """return [...document.querySelectorAll(`#${arguments[0]} .number`)].map((number) => {
        const middle = number.previousElementSibling;
        const bar = middle.matches(".track") ? parseFloat(middle.firstChild.style.width) / 100 : 0;
        return [middle.previousElementSibling.textContent, bar, number.textContent];
      })"""
    return [tuple(bar) for bar in browser.execute_script(read, id)]


def softmax(shown: Shown, epoch: int, image: int) -> np.ndarray:
    logits = torch.from_numpy(shown.expected.activations[epoch]["fc"][image])
    return logits.double().softmax(dim=0).numpy()


@pytest.mark.parametrize(("epoch", "image"), [(0, 0), (2, 1), (3, 2)])
def test_the_bars_are_the_class_probabilities_of_the_chosen_image(
    explored: Callable[..., Shown], browser: Chrome, epoch: int, image: int
):
    shown = explored()
    shown.open(f"epoch={epoch}&image={image}")
    names, lengths, numbers = zip(*bars(browser, "probabilities"), strict=True)
    expected, classes = softmax(shown, epoch, image), shown.expected.network.classes
    assert names == classes
    assert sum(lengths) == pytest.approx(1, abs=1e-5)
    assert lengths == pytest.approx(expected, abs=1e-5)
    assert [float(number.removesuffix(" %")) for number in numbers] == pytest.approx(100 * expected, abs=0.0501)
    bold = browser.find_elements(By.CSS_SELECTOR, "#probabilities .own")
    label = shown.expected.images[image].label
    assert label is not None
    assert [name.text for name in bold] == [classes[label]]


def test_of_many_classes_the_most_probable_are_shown(explored: Callable[..., Shown], browser: Chrome):
    shown = explored(CONFIGS[1], tuple(f"class {number}" for number in range(15)))
    shown.open("epoch=2&image=1")
    names, lengths, _ = zip(*bars(browser, "probabilities"), strict=True)
    expected = softmax(shown, 2, 1)
    order = np.argsort(-expected)[:12]
    assert names == tuple(f"class {number}" for number in order)
    assert lengths == pytest.approx(expected[order], abs=1e-5)
    assert "The 12 largest class probabilities" in browser.find_element(By.ID, "probabilities-caption").text


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_share_of_live_filters_is_that_of_the_epoch(explored: Callable[..., Shown], browser: Chrome, epoch: int):
    shown = explored()
    shown.open(f"epoch={epoch}")
    maps = shown.expected.activations[epoch]
    for (name, length, text), (layer, rectified) in zip(
        bars(browser, "live"), [("conv1", "relu1"), ("conv2", "relu2")], strict=True
    ):
        active = (maps[rectified] > 0).any(axis=(0, 2, 3))
        assert name == layer
        assert length == pytest.approx(active.mean(), abs=1e-6)
        assert text == f"{active.sum()} of {len(active)} ({100 * active.mean():.1f} %)"
        assert active[DEAD[layer]] == (epoch == 0)


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("config", CONFIGS[:2], ids=str)
@pytest.mark.parametrize(("layer", "epoch", "image"), [("conv2", 3, 1), ("conv1", 1, 2)])
def test_the_shares_of_the_filters_sum_to_the_margin_minus_the_mean_margin(
    explored: Callable[..., Shown],
    browser: Chrome,
    tiny: Dataset,
    config: CNNConfig,
    layer: str,
    epoch: int,
    image: int,
):
    shown = explored(config)
    network, picture = shown.expected.network, shown.expected.images[image]
    a, b = rival_of(shown.expected.activations[3]["fc"][image], picture.label)
    with torch.no_grad():
        others = network.model(epoch)(normalise(background(tiny.train))).mean(dim=0)
    logits = shown.expected.activations[epoch]["fc"][image]
    margin, mean = float(logits[a] - logits[b]), float(others[a] - others[b])
    # On conv1 no row is of the chosen filter; on conv2 filter 5, which is dead, has a row in bold.
    shown.open(f"layer={layer}&filter=5&epoch={epoch}&image={image}")
    rows = bars(browser, "filter-shares")
    assert sum(number(text) for _, _, text in rows) == pytest.approx(margin - mean, abs=0.0051 * len(rows))
    caption = browser.find_element(By.ID, "filter-shares-caption").text
    assert (
        f"margin of {quoted(network.classes[a])} over {quoted(network.classes[b])} in {picture.description}" in caption
    )
    numbers = [number(text) for text in re.findall(r"[+−]\d+\.\d\d", caption)]
    assert numbers == pytest.approx([margin, mean, margin - mean], abs=0.0051)
    bold = [name.text for name in browser.find_elements(By.CSS_SELECTOR, "#filter-shares .own")]
    assert bold == (["filter 5"] if layer == "conv2" else [])


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_shares_are_named_as_conv2s_and_their_bars_compare(
    explored: Callable[..., Shown], browser: Chrome, layer: str
):
    shown = explored(SMALL)
    shown.open(f"layer={layer}&filter=0&epoch=3&image=0")
    title = browser.find_element(By.CSS_SELECTOR, "#filter-shares-figure .title").text
    assert title == "What the filters of conv2 add to the margin"
    *listed, (name, _, _) = bars(browser, "filter-shares")
    assert name == f"{SMALL.filters[1] - len(listed)} others"
    lengths, values = zip(*((length, abs(number(text))) for _, length, text in listed), strict=True)
    assert np.array(lengths) * max(values) == pytest.approx(np.array(values) * max(lengths), abs=0.0051)
    # A sum of many has no bar that would compare, and says so.
    assert browser.find_element(By.CSS_SELECTOR, "#filter-shares .instead").text == "their sum, without a bar"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#filter-shares .track")) == len(listed)


def test_without_background_images_no_shares_are_shown(explored: Callable[..., Shown], browser: Chrome):
    explored(CONFIGS[1], LONG, epochs=0).open()
    assert not browser.find_element(By.ID, "filter-shares-figure").is_displayed()


def test_the_address_keeps_what_is_shown(explored: Callable[..., Shown], browser: Chrome):
    shown = explored()
    shown.open("layer=conv2&filter=9&epoch=2&image=1")
    keys(browser, Keys.ARROW_RIGHT)
    shown.wait("conv2 9 3 1")
    assert browser.execute_script("return location.hash") == "#layer=conv2&filter=9&epoch=3&image=1"
    browser.execute_script("location.hash = 'filter=4'")
    shown.wait("conv2 4 3 1")


@pytest.mark.parametrize("address", ["", "layer=conv9&filter=x&epoch=77&image=50", "filter=-1&epoch=1.5", "%%%"])
def test_an_address_that_says_nothing_shows_the_last_epoch(explored: Callable[..., Shown], address: str):
    shown = explored()
    shown.open(address)
    shown.wait("conv1 2 3 0")


def test_a_filter_past_the_last_is_the_last(explored: Callable[..., Shown]):
    shown = explored()
    shown.open("layer=conv2&filter=900")
    shown.wait("conv2 15 3 0")


def at_width(browser: Chrome, width: int) -> None:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


@pytest.mark.parametrize("width", [1200, 375])
@pytest.mark.parametrize("layer", list(page.MAPS))
def test_the_page_fits_its_window_with_long_names(
    explored: Callable[..., Shown], browser: Chrome, width: int, layer: str
):
    shown = explored(CNNConfig(), LONG)
    at_width(browser, width)
    try:
        shown.open(f"layer={layer}")
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        canvases = browser.find_elements(By.CSS_SELECTOR, "#maps canvas, #kernel")
        sizes = [(canvas.rect["x"], canvas.rect["width"]) for canvas in canvases if canvas.is_displayed()]
        assert len(sizes) == len(canvases)
        assert all(x >= 0 and wide >= 40 and x + wide <= width for x, wide in sizes)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_row_of_images_wider_than_its_place_says_so(explored: Callable[..., Shown], browser: Chrome):
    explored().open()
    hint = browser.find_element(By.ID, "sideways")
    assert not hint.is_displayed()
    browser.execute_script("document.getElementById('maps').style.width = '300px'; dispatchEvent(new Event('resize'))")
    assert hint.text == "3 images: scroll sideways"


def test_names_and_titles_are_text(explored: Callable[..., Shown], browser: Chrome):
    shown = explored(CNNConfig(), LONG)
    shown.open()
    assert browser.find_element(By.TAG_NAME, "h1").text == TITLE
    assert browser.title == TITLE
    names = [element.get_attribute("title") for element in browser.find_elements(By.CLASS_NAME, "name")]
    assert names == [image.description for image in shown.expected.images]
    assert not browser.find_elements(By.CSS_SELECTOR, "img, b:not(.head b)")


def test_every_control_and_picture_has_a_name(explored: Callable[..., Shown], browser: Chrome):
    explored().open()
    controls = browser.find_elements(By.CSS_SELECTOR, "button, input, [role=img], [role=group]")
    assert len(controls) > 25
    assert [element.get_attribute("outerHTML") for element in controls if not element.accessible_name] == []
    pressed = browser.find_elements(By.CSS_SELECTOR, "#layers [aria-pressed=true]")
    assert [button.text for button in pressed] == ["conv1"]


@pytest.mark.parametrize("kind", ["blob", "srcdoc"])
def test_it_works_in_a_sandboxed_frame(explored: Callable[..., Shown], browser: Chrome, tmp_path: Path, kind: str):
    shown = explored()
    html = json.dumps(shown.file.read_text(encoding="utf-8")).replace("<", "\\u003c")
    source = {
        "blob": "frame.src = URL.createObjectURL(new Blob([html], {type: 'text/html'}))",
        "srcdoc": "frame.srcdoc = html",
    }
    (tmp_path / "frame.html").write_text(
        f"""<!DOCTYPE html><meta charset="utf-8"><iframe sandbox="allow-scripts" width="1000" height="900"></iframe>
        <script>const html = {html}; const frame = document.querySelector("iframe"); {source[kind]};</script>""",
        encoding="utf-8",
    )
    browser.get((tmp_path / "frame.html").as_uri())
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    try:
        shown.wait("conv1 2 3")
        browser.find_element(By.ID, "conv2").click()
        keys(browser, Keys.ARROW_LEFT)
        shown.check("conv2", 2, 2)
    finally:
        browser.switch_to.default_content()


def test_it_fetches_nothing(explored: Callable[..., Shown], browser: Chrome):
    explored().open("layer=conv2")
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def test_one_epoch_and_three_classes_are_enough(explored: Callable[..., Shown], browser: Chrome):
    shown = explored(CONFIGS[1], LONG, epochs=0)
    shown.open("layer=conv2&filter=1")
    shown.check("conv2", 1, 0)
    keys(browser, Keys.ARROW_RIGHT, " ")
    WebDriverWait(browser, 10).until(lambda _: browser.find_element(By.ID, "play").text == "Play")
    shown.check("conv2", 1, 0)


def test_a_browser_that_cannot_unpack_it_says_so(explored: Callable[..., Shown], browser: Chrome, tmp_path: Path):
    html = explored().file.read_text(encoding="utf-8")
    (tmp_path / "old.html").write_text(html.replace("<head>", "<head><script>delete DecompressionStream</script>"))
    browser.get((tmp_path / "old.html").as_uri())
    state = browser.find_element(By.ID, "state")
    WebDriverWait(browser, 30).until(lambda _: "cannot be shown in this browser" in state.text)
