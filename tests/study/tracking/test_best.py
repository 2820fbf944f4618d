import math
from pathlib import Path

import pytest

from study.config import DataConfig
from study.errors import StudyError
from study.tracking import best as selection
from study.tracking.store import Store


def trial(
    store: Store,
    number: int,
    accuracy: float,
    loss: float = 1.0,
    *,
    model: str = "cnn",
    dataset: str = "digits",
    reason: str = "complete",
    parameters: int | None = None,
) -> str:
    tags = {"stage": "trial", "model": model, "search": f"{dataset}-{model}", "dataset": dataset}
    tags |= {"optuna_trial": str(number), "base_seed": "0"}
    params = {"epochs": 2} | ({} if parameters is None else {"parameters": parameters})
    run_id = store.start(dataset, f"{dataset}-{model} trial {number}", tags=tags, params=params)
    store.log(run_id, {"best_val_accuracy": accuracy, "best_val_loss": loss})
    store.finish(run_id, {"complete": "FINISHED", "pruned": "FINISHED"}.get(reason, "KILLED"), reason)
    return run_id


def retraining(
    store: Store, of: str, *, seed: int = 0, epochs: int = 30, status: str = "FINISHED", name: str = "retrained"
) -> str:
    trained = {name: store.get(of).tags[name] for name in ("dataset", "model")}
    tags = {"stage": "retrain", "trial_run": of, "seed": str(seed), **trained}
    run_id = store.start(tags["dataset"], name, tags=tags, params={"epochs": epochs, "dataset": trained["dataset"]})
    store.finish(run_id, status, "complete" if status == "FINISHED" else "interrupted")
    return run_id


def refusal(call, *arguments: object) -> str:
    with pytest.raises(StudyError) as raised:
        call(*arguments)
    text = str(raised.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_the_best_trial_has_the_highest_validation_accuracy(store: Store):
    trial(store, 0, 0.5)
    best = trial(store, 1, 0.8)
    trial(store, 2, 0.7)
    assert selection.best_trial(store, "digits", "cnn").id == best


def test_where_only_another_network_was_retrained_it_is_named(store: Store):
    text = refusal(selection.choose_retrained, store, "best")
    assert "best:" not in text
    retraining(store, trial(store, 0, 0.5, model="ffnn"))
    text = refusal(selection.choose_retrained, store, "best")
    assert text.startswith("No cnn was searched on digits: run `")
    assert text.endswith("first, or choose --run best:ffnn.")
    trial(store, 0, 0.5)
    assert refusal(selection.choose_retrained, store, "best").endswith("first, or choose --run best:ffnn.")


def test_the_command_that_is_missing_skips_what_was_skipped(store: Store, tmp_path: Path):
    data = DataConfig(dataset=str(tmp_path), image_size=48, skip_unreadable=True)
    text = refusal(selection.best_trial, store, "photos-48px", "cnn", data)
    assert f"--dataset {tmp_path} --image-size 48 --skip-unreadable" in text


def test_the_smallest_network_that_reaches_an_accuracy_can_be_preferred(store: Store):
    trial(store, 0, 0.9)
    large = trial(store, 1, 0.8, parameters=5000)
    small = trial(store, 2, 0.7, parameters=2000)
    trial(store, 3, 0.65, parameters=2000)
    trial(store, 4, 0.95, reason="pruned", parameters=10)
    chosen = {
        least: selection.best_trial(store, "digits", "cnn", prefer=f"parameters:{least}").id for least in (0.6, 0.7)
    }
    assert chosen == {0.6: small, 0.7: small}
    assert selection.choose_trial(store, "best:parameters:0.75", "cnn").id == large
    assert selection.choose_trial(store, "best:cnn:parameters:0.5", "ffnn").id == small
    run = retraining(store, small)
    assert selection.choose_retrained(store, "best:parameters:0.6").id == run
    text = refusal(selection.choose_retrained, store, "best:parameters:0.8")
    assert "study retrain --model cnn --run best:parameters:0.8" in text
    # One whose number of parameters is unknown does not count.
    text = refusal(selection.choose_trial, store, "best:parameters:0.85", "cnn")
    assert text.startswith(
        "No trial of a known number of parameters reaches a validation accuracy of 0.85: the highest is 0.8"
    )


def test_a_trial_is_retrained_for_its_own_epochs_where_its_search_drew_them(store: Store):
    run = store.get(trial(store, 0, 0.5))
    assert selection.default_epochs(store, run) == 30
    tags = {"stage": "search", "model": "cnn", "search": "digits-cnn", "dataset": "digits"}
    store.start("digits", "digits-cnn", tags=tags, params={"choices": {"kernel": "3,5"}})
    assert selection.default_epochs(store, run) == 30
    store.start("digits", "digits-cnn", tags=tags, params={"choices": {"kernel": "3,5", "epochs": "2:9"}})
    assert selection.default_epochs(store, run) == 2


def test_equal_accuracies_are_told_apart_by_the_loss_and_then_by_the_number(store: Store):
    trial(store, 10, 0.8, 0.6)
    second = trial(store, 9, 0.8, 0.5)
    assert selection.best_trial(store, "digits", "cnn").id == second
    # As numbers: as texts "10" would come before "9".
    trial(store, 11, 0.8, 0.5)
    assert selection.best_trial(store, "digits", "cnn").id == second
    first = trial(store, 2, 0.8, 0.5)
    assert selection.best_trial(store, "digits", "cnn").id == first


def test_a_trial_whose_loss_is_lost_comes_after_its_equals(store: Store):
    lost = [trial(store, number, 0.8, math.nan) for number in (0, 3)]
    kept = trial(store, 1, 0.8, 9.0)
    assert [run.id for run in selection.complete_trials(store, "digits")] == [kept, *lost]


def test_only_complete_trials_of_the_model_and_the_data_set_with_a_number_are_candidates(store: Store):
    best = trial(store, 0, 0.3)
    trial(store, 1, 0.9, reason="pruned")
    trial(store, 2, 0.9, reason="interrupted")
    trial(store, 3, 0.9, model="ffnn")
    trial(store, 4, 0.9, dataset="cifar10")
    trial(store, 5, float("inf"))
    trial(store, 6, float("nan"))
    assert selection.best_trial(store, "digits", "cnn").id == best


def test_where_nothing_was_searched_the_command_is_named(store: Store):
    assert "study tune --model ffnn" in refusal(selection.best_trial, store, "digits", "ffnn")
    assert "study tune" in refusal(selection.choose_trial, store, "best", "cnn")


def test_where_nothing_was_retrained_the_command_is_named(store: Store):
    assert "study retrain" in refusal(selection.choose_retrained, store, "best")


def test_the_best_that_is_not_retrained_is_named_with_the_command(store: Store):
    retraining(store, trial(store, 0, 0.5))
    trial(store, 7, 0.9)
    text = refusal(selection.choose_retrained, store, "best")
    assert "trial 7 of search digits-cnn) was not retrained: run" in text
    assert "study retrain --model cnn" in text


def test_the_best_that_is_retrained_with_another_seed_alone_is_named_with_it(store: Store):
    other = retraining(store, trial(store, 7, 0.9), seed=1)
    text = refusal(selection.choose_retrained, store, "best")
    assert f"was not retrained with seed 0, only with 1 (--run {other[:8]}): run `" in text


def test_the_best_is_the_latest_finished_retraining_with_the_searchs_seed(store: Store):
    best = trial(store, 0, 0.9)
    retraining(store, best)
    latest = retraining(store, best)
    retraining(store, best, seed=1)
    retraining(store, best, status="KILLED")
    retraining(store, trial(store, 1, 0.8))
    assert selection.choose_retrained(store, "best").id == latest
    assert selection.choose_retrained(store, "best:cnn", "digits").id == latest


def test_a_short_retraining_does_not_replace_the_long_one(store: Store):
    best = trial(store, 0, 0.9)
    long = retraining(store, best)
    retraining(store, best, epochs=1)
    assert selection.choose_retrained(store, "best").id == long


def test_best_is_looked_for_in_the_data_set_of_the_latest_retraining(store: Store):
    digits = retraining(store, trial(store, 0, 0.9))
    photos = retraining(store, trial(store, 0, 0.4, dataset="photos"))
    assert selection.choose_retrained(store, "best").id == photos
    assert selection.choose_retrained(store, "best", "digits").id == digits


def test_best_on_a_data_set_that_is_not_at_hand_is_the_latest_of_that_name(store: Store):
    assert "Nothing was retrained yet" in refusal(selection.choose_retrained_on, store, "best", "digits")
    digits = retraining(store, trial(store, 0, 0.9))
    photos = retraining(store, trial(store, 0, 0.4, dataset="photos"))
    assert selection.choose_retrained_on(store, "best", "digits").id == digits
    assert selection.choose_retrained_on(store, "best", "").id == photos
    assert "'dreams': choose one of digits, photos" in refusal(selection.choose_retrained_on, store, "best", "dreams")
    # A run that is named has its own.
    assert selection.choose_retrained_on(store, photos, "digits").id == photos


def test_best_of_a_model_is_that_models(store: Store):
    retraining(store, trial(store, 0, 0.9))
    ffnn = retraining(store, trial(store, 0, 0.5, model="ffnn"))
    assert selection.choose_retrained(store, "best:ffnn").id == ffnn
    assert "'resnet'" in refusal(selection.choose_retrained, store, "best:resnet")
    assert "'resnet'" in refusal(selection.choose_trial, store, "best:resnet", "cnn")


def test_a_run_is_found_by_its_id_a_unique_prefix_or_its_name(store: Store):
    run_id = retraining(store, trial(store, 0, 0.9), name="the one")
    for spec in (run_id, run_id[:12], "the one"):
        assert selection.find(store, spec).id == run_id
        assert selection.choose_retrained(store, spec).id == run_id


def test_what_means_several_runs_is_refused_with_their_number(store: Store):
    best = trial(store, 0, 0.9)
    twins = [retraining(store, best, name="twin") for _ in range(2)]
    text = refusal(selection.find, store, "twin")
    assert "means 2 runs" in text
    assert all(twin[:12] in text for twin in twins)
    # Seventeen runs have at least two with the same first hexadecimal digit.
    firsts = [retraining(store, best)[0] for _ in range(17)]
    shared = next(digit for digit in firsts if firsts.count(digit) > 1)
    assert "name one by its id" in refusal(selection.find, store, shared)


@pytest.mark.parametrize("spec", ["nothing", "", "Best", "zz"])
def test_an_unknown_run_is_named_beside_those_there_are(spec: str, store: Store):
    run_id = retraining(store, trial(store, 0, 0.9), name="the one")
    text = refusal(selection.find, store, spec)
    assert repr(spec) in text
    assert f"the one {run_id[:8]}" in text


def test_a_trial_where_a_retrained_run_is_needed_is_refused(store: Store):
    run_id = trial(store, 0, 0.9)
    text = refusal(selection.choose_retrained, store, run_id)
    assert "is a trial" in text
    assert "keeps no weights" in text


def test_the_trial_to_retrain_is_the_best_a_trial_or_a_retrained_runs_own(store: Store):
    first, best = trial(store, 0, 0.5), trial(store, 1, 0.9)
    run_id = retraining(store, first)
    assert selection.choose_trial(store, "best", "cnn").id == best
    assert selection.choose_trial(store, first, "cnn").id == first
    assert selection.choose_trial(store, run_id, "cnn").id == first
    search = store.start("digits", "digits-cnn", tags={"stage": "search", "dataset": "digits"}, params={})
    assert "is not a trial" in refusal(selection.choose_trial, store, search, "cnn")


def test_the_finished_seeds_are_those_of_the_trial_its_epochs_and_precision(store: Store):
    best, other = trial(store, 0, 0.9), trial(store, 1, 0.8)

    def seeded(of: str, seed: int, epochs: int = 30, precision: str = "bf16", status: str = "FINISHED") -> str:
        params = {"epochs": epochs, "precision": precision, "seed": seed}
        run_id = store.start("digits", "retrained", tags={"stage": "retrain", "trial_run": of}, params=params)
        store.finish(run_id, status, "complete")
        return run_id

    seeded(best, 2)
    first, latest = seeded(best, 0), seeded(best, 2)
    seeded(best, 3, epochs=5)
    seeded(best, 4, precision="float32")
    seeded(best, 5, status="KILLED")
    seeded(other, 6)
    seeds = selection.finished_seeds(store, store.get(best), 30, "bf16")
    assert {seed: run.id for seed, run in seeds.items()} == {0: first, 2: latest}


def sized(store: Store, dataset: str, side: int | None) -> str:
    size = {} if side is None else {"image_size": side}
    tags = {"stage": "retrain", "dataset": f"{dataset}-{side}px"}
    return store.start(tags["dataset"], "retrained", tags=tags, params={"dataset": dataset, **size})


def test_the_size_of_images_is_that_of_the_run_or_of_the_latest_on_them(store: Store):
    assert selection.read_as(store, "best", "retrain", "digits").image_size == 32
    old = sized(store, "digits", None)
    assert selection.read_as(store, "best:ffnn", "retrain", "digits").image_size == 32
    large, other = sized(store, "digits", 48), sized(store, "cifar10", 64)
    sizes = {name: selection.read_as(store, "best", "retrain", name).image_size for name in ("digits", "cifar10")}
    assert sizes == {"digits": 48, "cifar10": 64}
    assert selection.read_as(store, "best", "retrain", "/moved/photos").image_size == 64
    of_runs = [selection.read_as(store, run, "retrain", "digits") for run in (old, large, other)]
    assert [data.image_size for data in of_runs] == [32, 48, 64]
    with pytest.raises(StudyError, match="Unknown run 'nowhere'"):
        selection.read_as(store, "nowhere", "retrain", "digits")


def test_unreadable_files_are_skipped_where_those_of_the_same_folder_were(store: Store):
    params = {"dataset": "/photos", "skip_unreadable": True}
    run_id = store.start("photos", "retrained", tags={"stage": "retrain", "dataset": "photos"}, params=params)
    read = {name: selection.read_as(store, "best", "retrain", name).skip_unreadable for name in ("/photos", "/others")}
    assert read == {"/photos": True, "/others": False}
    assert selection.read_as(store, run_id, "retrain", "/moved/photos").skip_unreadable


def test_a_command_that_is_named_leads_to_the_store_and_the_images_at_hand(store: Store, tmp_path: Path):
    where = f"--home {store.home.root}"
    assert f"`study tune --model ffnn --dataset digits {where}`" in refusal(
        selection.best_trial, store, "digits", "ffnn"
    )
    folder = str(tmp_path / "my photos")
    data = DataConfig(dataset=folder, image_size=48)
    text = refusal(selection.best_trial, store, "photos-01234567-48px", "cnn", data)
    assert f"`study tune --model cnn --dataset '{folder}' --image-size 48 {where}`" in text
    assert f"`study tune --model ffnn {where}`" in refusal(selection.choose_trial, store, "best", "ffnn")
    assert f"`study retrain {where}`" in refusal(selection.choose_retrained, store, "best")
    retraining(store, trial(store, 0, 0.5))
    trial(store, 7, 0.9)
    text = refusal(selection.choose_retrained, store, "best")
    assert f"`study retrain --model cnn --dataset digits {where}`" in text


def test_an_unknown_model_is_named_beside_those_that_were_searched(store: Store):
    store.start("digits", "s", tags={"stage": "search", "model": "my_net", "search": "s"}, params={})
    message = refusal(selection.best_retrained, store, "my_met", "digits")
    assert "'my_met'" in message
    assert "cnn, ffnn, my_net, resnet18" in message
    assert "No my_net was searched on digits" in refusal(selection.best_trial, store, "digits", "my_net")
