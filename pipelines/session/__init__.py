"""The session of a command: isolation from the environment, stores and machine, display, and MLflow's pages."""
