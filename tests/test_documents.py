"""The Markdown pages: what they link to, and the files that they name, exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from analysis.drawing.style import COLLAPSED
from analysis.filters.cosine_distance import WITHIN
from analysis.filters.kernel_convergence import SLIGHTLY
from tests.support.accessibility import violations

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "mlruns" / "README.md"])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_read():
    assert {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "results.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


# Not those of docs/, where a measurement names the command of its own commit.
@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_modules_that_are_named_exist(page: str):
    named = re.findall(r"\b(?:study|pipelines|analysis|benchmarks|tests)/[\w/]+\.py\b", (ROOT / page).read_text())
    missing = {name for name in named if "NAME" not in name and not (ROOT / name).is_file()}
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_nothing_tells_users_to_install_another_package_of_this_name():
    texts = [*PAGES, *ROOT.glob("study/**/*.py"), *ROOT.glob("pipelines/**/*.py")]
    assert not [text for text in texts if re.search(r"pip install\s+(-U )?['\"]?study\b", text.read_text())]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of `make docs`, of which a warning (a broken link, a page in no menu) is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_has_every_page_and_the_readme_as_its_home(site: Path):
    assert {page.stem for page in ROOT.glob("docs/*.md")} <= {page.stem for page in site.glob("*.html")}
    assert "How do a CNN" in (site / "index.html").read_text()


def test_the_site_describes_commands_and_functions(site: Path):
    assert "--retrain-epochs" in (site / "commands.html").read_text()
    assert "downloaded if needed" in (site / "python.html").read_text()


def test_the_site_loads_nothing_from_elsewhere(site: Path):
    for page in site.glob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe|link)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page.read_text())
        assert not loaded, page


@pytest.mark.parametrize("name", ["index", "tutorial", "python", "commands"])
def test_axe_finds_nothing_wrong_with_the_site(site: Path, browser: Chrome, name: str):
    browser.get((site / f"{name}.html").as_uri())
    # Browsers have made regions that scroll reachable by the keyboard themselves since this version of the rule.
    assert violations(browser, ignored=["scrollable-region-focusable"]) == []


def test_figures_of_the_gallery_are_small():
    assert all(figure.stat().st_size < 100_000 for figure in ROOT.glob("docs/gallery/*"))


def test_the_glossary_has_the_thresholds_of_the_code() -> None:
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()]
    meanings = {row[0]: row[1] for row in rows if len(row) == 2}
    strict, loose = WITHIN
    assert f"as large as {COLLAPSED:g}," in meanings["collapsed"]
    assert f"further than {strict:g} " in meanings["settled"]
    assert meanings["settled"].endswith(f"where it is said, {loose:g}")
    assert f"up to {SLIGHTLY:g}," in meanings["turn"]
