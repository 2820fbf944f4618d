import gc
import os

# Before anything is imported: by default it runs every 700 new objects, which took a tenth of the processor time.
gc.set_threshold(20_000, 10, 10)

# Before torch is imported, here and in what the tests start: several of them share the cores, and a thread that spins
# while it waits for another one takes the core that the other needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
