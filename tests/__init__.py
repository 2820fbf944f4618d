import os

# Before torch is imported, here and in what the tests start: several of them share the cores, and a thread that spins
# while it waits for another one takes the core that the other needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
