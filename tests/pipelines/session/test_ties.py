from pipelines.session.ties import say_ties, ties
from study.tracking.best import complete_trials
from study.tracking.store import Store


def trial(store: Store, number: int, accuracy: float, loss: float | None, search: str = "first") -> str:
    tags = {"stage": "trial", "model": "cnn", "search": search, "dataset": "digits", "optuna_trial": str(number)}
    run_id = store.start("digits", f"trial {number}", tags=tags, params={})
    losses = {} if loss is None else {"best_val_loss": loss}
    store.log(run_id, {"best_val_accuracy": accuracy, **losses})
    store.finish(run_id, "FINISHED", "complete")
    return run_id


def said(store: Store) -> str:
    return ties(complete_trials(store, "digits", model="cnn"))


def test_trials_of_other_searches_that_are_tied_are_named_with_their_search(store: Store):
    assert ties([]) == ""
    trial(store, 0, 0.5, 1.0)
    trial(store, 1, 0.4, 0.1, search="second")
    assert said(store) == ""
    trial(store, 2, 0.5, 2.0, search="second")
    assert said(store) == "Tied with trial 2 of second: the lowest validation loss decided."
    trial(store, 3, 0.5, 3.0)
    assert said(store) == "Tied with 2 more trials (2 of second, 3): the lowest validation loss decided."


def test_where_the_losses_are_equal_or_unknown_the_number_decided(store: Store):
    for number in (0, 1):
        trial(store, number, 0.5, 1.0)
    assert said(store) == "Tied with trial 1: the lowest number decided."
    for number in (4, 5):
        trial(store, number, 0.6, None)
    assert said(store) == "Tied with trial 5: the lowest number decided."
    trial(store, 4, 0.6, None, search="second")
    assert said(store) == "Tied with 2 more trials (4 of first, 5 of first): the later start decided."


def test_they_are_said_of_best_and_of_its_retraining_but_not_of_a_run_that_is_named(store: Store):
    best = trial(store, 0, 0.5, 1.0)
    trial(store, 7, 0.5, 2.0, search="second")
    tags = {"stage": "retrain", "trial_run": best, "dataset": "digits"}
    retrained = store.get(store.start("digits", "retrained", tags=tags, params={}))
    messages: list[str] = []
    for spec, run in (("best", store.get(best)), ("best:cnn", retrained), (best, retrained)):
        say_ties(spec, run, store, messages.append)
    sentence = "Tied with trial 7 of second: the lowest validation loss decided."
    assert messages == [f"The best is trial 0 of first, validation accuracy 0.5000. {sentence}"] * 2
