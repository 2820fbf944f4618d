import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.search.draws import draw_of, first_attempt, next_draw, parameters_of

RATES = {"learning_rate": 1e-3, "weight_decay": 1e-4}
BOUNDS = optuna.distributions.FloatDistribution(1e-6, 1e-1, log=True)


def trial(number: int, params: dict[str, float] = RATES, **attributes: object) -> FrozenTrial:
    """A complete trial; without parameters one that failed."""
    made = create_trial(
        state=TrialState.COMPLETE if params else TrialState.FAIL,
        value=0.5 if params else None,
        params=params,
        distributions=dict.fromkeys(params, BOUNDS),
        user_attrs=attributes,
    )
    made.number = number
    return made


def test_a_trial_attempts_its_own_draw_unless_another_is_recorded():
    assert (draw_of(trial(4)), first_attempt(trial(4))) == (4, 4)
    assert draw_of(trial(4, draw=3)) == 3
    assert first_attempt(trial(4, retry_of=1)) == 1


@pytest.mark.parametrize("recorded", [5, -1, 1.0, "2"])
def test_impossible_numbers_are_refused(recorded: object):
    with pytest.raises(ValueError, match="its draw is"):
        draw_of(trial(4, draw=recorded))


def test_the_last_trial_cannot_be_a_retry_of_itself():
    with pytest.raises(ValueError, match="its retry_of is 4"):
        first_attempt(trial(4, retry_of=4))


def test_parameters_are_those_of_a_trial_that_has_all():
    assert parameters_of(trial(0)) == RATES
    assert parameters_of(trial(0, {"learning_rate": 1e-3})) == {}


def test_a_new_trial_takes_the_next_draw_and_a_retry_that_of_its_first_attempt():
    before = [trial(0, draw=0), trial(1, {}), trial(2, draw=1), trial(3, draw=0, retry_of=0)]
    # The second ended before it drew, and left its number to the third.
    assert next_draw(trial(4), before) == 2
    assert next_draw(trial(4, retry_of=2), before) == 1
    assert next_draw(trial(0), []) == 0
