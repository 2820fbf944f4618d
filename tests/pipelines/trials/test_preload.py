import subprocess
import sys


def test_what_the_fork_server_imports_starts_no_thread_and_touches_no_gpu():
    code = "import threading, pipelines.trials.preload, torch\n"
    code += "print(threading.active_count(), torch.cuda.is_initialized(), flush=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
