"""What axe-core finds wrong with a page, for who reads it with a screen reader, a keyboard, or little contrast."""

from collections.abc import Collection

from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome


def violations(browser: Chrome, ignored: Collection[str] = ()) -> list[str]:
    """The broken rules of the page that is open, each with the first element that breaks it."""
    browser.set_script_timeout(120)
    found = Axe().run(browser)["violations"]
    return [f"{rule['help']}: {rule['nodes'][0]['html'][:200]}" for rule in found if rule["id"] not in ignored]
