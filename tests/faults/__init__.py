"""Real `study` processes, stopped at random and at chosen moments until they complete; then what must never break.

`make faults` runs all of it (`python -m tests.faults`), and `make test` a few cases. Nothing in the program knows of
it: moments are chosen by looking at what a process says, at its files and at its databases.
"""
