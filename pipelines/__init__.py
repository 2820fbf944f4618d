"""The stages of the study, and the command that runs them."""
