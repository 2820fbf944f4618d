"""Fault injection: kills real `study` processes until they complete, then checks what must hold of their stores.

`make faults` runs all of it (`python -m tests.faults`), and `make test` a few cases. The program has no hooks for it:
moments are random, or chosen by the output, the files and the databases of a process.
"""
