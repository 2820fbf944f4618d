from pathlib import Path

import pytest

from study.provenance import git_commit, short_commit


def test_the_commit_is_that_of_the_source_tree_also_within_a_hook_of_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    commit = git_commit()
    if commit == "unknown":
        pytest.skip("the source tree is no git repository")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert git_commit() == commit


def test_a_short_commit_keeps_the_sign_of_uncommitted_changes():
    assert short_commit("0123456789abcdef") == "0123456789"
    assert short_commit("0123456789abcdef+") == "0123456789+"
    assert short_commit("unknown") == "unknown"
