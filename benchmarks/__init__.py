"""What is timed, each against a baseline in the same run; `make bench` runs all but `precision`, which takes hours."""
