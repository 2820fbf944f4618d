"""Files, processes, databases and environment variables, and how their failures are explained."""
