"""The whole path against a tracking server in another process, which keeps the artifacts itself."""

from pathlib import Path

from tests.support.process import study


def run(*arguments: str, home: Path, server: str) -> str:
    """What `study` said, working with `server`."""
    home.mkdir()
    ended = study(*arguments, home=home, MLFLOW_TRACKING_URI=server)
    assert ended.code == 0, ended.err
    return ended.out


def test_a_study_recorded_on_a_server_is_analysed_from_another_folder(server: str, tmp_path: Path) -> None:
    settings = ("--dataset", "digits", "--trials", "2", "--epochs", "1", "--retrain-epochs", "1")
    output = run("tune", *settings, home=tmp_path / "trained", server=server)
    assert f"{server}/#/experiments/" in output, "page addresses are given where a server answers"

    run("analyse", "--only", "table2,image,kernel_conv2,explorer", home=tmp_path / "analysed", server=server)
    (page,) = (tmp_path / "analysed" / "reports").glob("*/only/index.html")
    assert (page.parent / "kernel_conv2_filter12.png").is_file()
    assert not (tmp_path / "trained" / "mlruns" / "artifacts").exists(), "artifacts went to the server"
