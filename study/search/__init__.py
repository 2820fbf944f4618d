"""The hyperparameter search with Optuna, which nothing else imports."""
