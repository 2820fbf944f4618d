from pipelines.cli.variables import variables_behind

SERVER = {"MLFLOW_TRACKING_URI": "http://server.example:5000"}


def test_the_variable_that_a_refused_value_comes_from_is_named():
    text = "The server http://server.example:5000 does not answer correctly: start it again."
    assert variables_behind(text, SERVER) == " (It comes from MLFLOW_TRACKING_URI.)"
    assert variables_behind("--trials is 0: it must be at least 1.", {"STUDY_TRIALS": "0"}).endswith("STUDY_TRIALS.)")


def test_a_refused_login_is_not_mended_at_the_address_of_the_server():
    remedy = "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    assert variables_behind(f"The server http://server.example:5000 denies access (401): {remedy}", SERVER) == ""
