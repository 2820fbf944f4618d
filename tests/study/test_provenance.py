from pathlib import Path

import pytest

from study.provenance import git_commit


def test_the_commit_is_that_of_the_source_tree_also_within_a_hook_of_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    commit = git_commit()
    if commit == "unknown":
        pytest.skip("the source tree is no git repository")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert git_commit() == commit
