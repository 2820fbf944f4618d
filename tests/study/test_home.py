from pathlib import Path

from study.home import Home, default_home


def test_home_holds_data_stores_and_reports():
    home = Home(root=Path("/somewhere"))
    assert (home.data, home.store, home.reports) == tuple(
        Path("/somewhere") / name for name in ("data", "mlruns", "reports")
    )


def test_a_checkout_is_its_own_default_home():
    assert (default_home().root / "study" / "home.py").is_file()
