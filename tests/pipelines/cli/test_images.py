import pytest

from pipelines.cli.images import data_of, images_of
from study.config import DataConfig
from study.errors import StudyError
from study.tracking.store import Store


def test_a_data_set_has_the_size_that_is_given_or_that_of_the_run(store: Store):
    tags = {"stage": "retrain", "dataset": "digits-48px"}
    run_id = store.start("digits-48px", "retrained", tags=tags, params={"dataset": "digits", "image_size": 48})
    assert images_of(store, "best", "digits", None, False) == DataConfig(dataset="digits", image_size=48)
    assert images_of(store, run_id, "/moved", None, True) == data_of("/moved", 48, True)
    assert images_of(store, "best", "digits", 64, False) == DataConfig(dataset="digits", image_size=64)
    assert images_of(store, "best", "digits", None, False, stage="trial") == DataConfig(dataset="digits")


def test_unreadable_files_are_left_out_where_the_run_left_them_out(store: Store):
    params = {"dataset": "/photos", "skip_unreadable": True}
    run_id = store.start("photos", "search", tags={"stage": "search", "dataset": "photos"}, params=params)
    assert images_of(store, run_id, "/photos", None, False) == data_of("/photos", 32, True)
    assert images_of(store, "best", "/photos", None, False, stage="search") == data_of("/photos", 32, True)


def test_without_a_data_set_the_images_are_the_runs_own(store: Store):
    assert images_of(store, "best", "", None, False) is None
    with pytest.raises(StudyError, match="--image-size goes with --dataset"):
        images_of(store, "best", "", 48, False)
