"""Nothing that a store holds is run, and no name in it says more than it should."""

import ast
import csv
import io
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver import Chrome

from analysis.page import Section, page
from pipelines.report.exhibits import write_table
from pipelines.report.network import pull
from pipelines.show import show_runs
from study.errors import StudyError
from study.sources.decoded import load_cache
from study.tracking.store import Store
from tests.conftest import Finished, copy_of
from tests.support.process import study_here

ROOT = Path(__file__).parents[2]
LOADERS = {
    "torch.load", "np.load", "numpy.load", "pickle.load", "pickle.loads", "joblib.load", "pd.read_pickle",
    "cloudpickle.load", "cloudpickle.loads", "dill.load", "mlflow.pyfunc.load_model", "mlflow.pytorch.load_model",
}  # fmt: skip
SAFE = {"allow_pickle=False", "weights_only=True"}
"""Arguments with which a loader runs nothing."""


class Trap:
    """Makes a file as soon as somebody unpickles it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_no_code_here_loads_pickles() -> None:
    calls = set()
    for package in ("study", "pipelines", "analysis"):
        for file in (ROOT / package).rglob("*.py"):
            nodes = ast.walk(ast.parse(file.read_text()))
            calls |= {
                (file.name, ast.unparse(node.func))
                for node in nodes
                if isinstance(node, ast.Call) and SAFE.isdisjoint(map(ast.unparse, node.keywords))
            }
    assert calls
    assert not {call for call in calls if call[1] in LOADERS}


def test_mlflow_refuses_a_pickled_model_whatever_the_environment_says(tmp_path: Path) -> None:
    import mlflow
    import mlflow.pyfunc

    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"

    class Model(mlflow.pyfunc.PythonModel):
        def predict(self, context: object, model_input: list[str], params: object = None) -> list[str]:
            return model_input

    mlflow.pyfunc.save_model(tmp_path / "model", python_model=Model(), pip_requirements=[])
    with pytest.raises(mlflow.exceptions.MlflowException, match="MLFLOW_ALLOW_PICKLE_DESERIALIZATION"):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))


def test_a_pickle_in_the_place_of_any_artifact_is_not_loaded(finished_study: Finished, tmp_path: Path) -> None:
    mark, run_id = tmp_path / "mark", finished_study.retrained["cnn"]
    home = copy_of(finished_study.context.home, tmp_path / "home")
    (kept,) = finished_study.context.home.store.glob(f"artifacts/*/{run_id}/artifacts")
    store = Store(home)
    trap = pickle.dumps(Trap(mark))
    with pytest.MonkeyPatch.context() as patch:
        spoilt = tmp_path / "artifacts"
        for file in kept.rglob("*"):
            if file.is_file():
                (spoilt / file.relative_to(kept)).parent.mkdir(parents=True, exist_ok=True)
                (spoilt / file.relative_to(kept)).write_bytes(trap)
        patch.setattr("study.tracking.artifacts.Artifacts.root", lambda *_: spoilt)
        network = pull(store, store.get(run_id), ("a", "b"))
        assert network.predictions == {}
        with pytest.raises(StudyError, match="cannot be read"):
            network.weights(1)
        ended = study_here("analyse", "--run", run_id, "--only", "kernels", home=home.root)
    assert ended.code in (1, 2)
    assert not mark.exists()
    # It is a trap, all the same.
    pickle.loads(trap)
    assert mark.exists()


def test_a_pickle_in_the_place_of_decoded_images_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "images.safetensors"
    file.write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    assert load_cache(file) is None
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("value", ["plain", "it's", 'a "b"', "' or '1'='1", "a ` b", "100%", "back\\slash", "_"])
def test_a_tag_is_found_by_its_exact_value(value: str, store: Store) -> None:
    wanted = store.start("digits", "one", tags={"stage": "trial", "search": value}, params={})
    store.start("digits", "another", tags={"stage": "trial", "search": "other"}, params={})
    assert [run.id for run in store.runs(stage="trial", search=value)] == [wanted]


def test_a_tag_with_both_quotation_marks_is_found_too(store: Store) -> None:
    value = """'a" or '1'='1"""
    wanted = store.start("digits", "one", tags={"stage": "trial", "search": value}, params={})
    store.start("digits", "another", tags={"stage": "trial", "search": "other"}, params={})
    assert [run.id for run in store.runs(stage="trial", search=value)] == [wanted]


def test_a_name_is_neither_markup_nor_obeyed_in_the_terminal(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.start("digits", "[red]\x1b[31mname[/]", tags={"stage": "[/]search\x07"}, params={})
    show_runs(store, stage="", dataset="", limit=10)
    out = capsys.readouterr().out
    assert r"[red]\x1b[31mname[/]" in out
    assert "[/]search\\x07" in out
    assert "\x1b" not in out


def test_text_in_a_table_is_no_formula(tmp_path: Path) -> None:
    names = ["=cmd()", "+1+1", "-2", "@SUM(A1)", "\t=1", "cat", "-"]
    write_table(tmp_path, "table", pd.DataFrame({"class": names, "=loss": [-1.5, 2, 3, 4, 5, 6, 7]}))
    with (tmp_path / "table.csv").open(newline="") as file:
        heads, *rows = csv.reader(file)
    assert heads == ["class", "'=loss"]
    assert [row[0] for row in rows] == ["'=cmd()", "'+1+1", "-2", "'@SUM(A1)", "'\t=1", "cat", "'-"]
    assert rows[0][1] == "-1.5"


NASTY = "<script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">"


def test_a_class_that_is_a_script_does_not_run_in_a_browser(browser: Chrome, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (1, 1)).save(picture, "png")
    table, png = pd.DataFrame({NASTY: [NASTY]}), picture.getvalue()
    section = Section(NASTY, NASTY, table=table, png=png, alt=NASTY, csv=f"{NASTY}.csv", gif=NASTY)
    html = page(NASTY, NASTY, {NASTY: [section], "b": []}, facts={NASTY: NASTY}, links={NASTY: NASTY}, notices=[NASTY])
    (tmp_path / "page.html").write_text(html)
    browser.get((tmp_path / "page.html").as_uri())
    assert browser.title == NASTY
    assert browser.execute_script("return document.scripts.length") == 1
    assert browser.execute_script("return document.querySelectorAll('[onerror]').length") == 0


@pytest.mark.parametrize("name", ["../outside", "..", ".", "a/b", "/etc"])
def test_no_name_of_an_experiment_leads_out_of_the_artifacts(name: str, store: Store) -> None:
    with pytest.raises(StudyError, match="cannot name a folder"):
        store.start(name, "run", tags={}, params={})


def test_no_data_set_of_a_store_leads_out_of_the_reports(finished_study: Finished) -> None:
    with pytest.raises(StudyError, match="leads out of"):
        finished_study.context.report_folder("x/../../outside-cnn-01234567")
