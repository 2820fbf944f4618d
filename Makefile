# The two commands to start with are `make demo` and `make test`; each makes the environment it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# What the benchmarks that need real images train on: cifar10, or the path of an image folder.
DATASET ?= cifar10

# Containers often set it; each process of the tests would then compile all modules, and rewrite all assertions, anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick check format docs bench faults clean

demo: $(INSTALLED)  ## The whole study on the bundled digits: search, retrain and analyse both models
	$(BIN)/study reproduce --dataset digits --epochs 5 --retrain-epochs 15

# As many at a time as there are cores, up to four; a file's tests stay together, since they share what is slow to make,
# and the longest files come first (tests/conftest.py).
test: $(INSTALLED)  ## All tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

quick: $(INSTALLED)  ## The tests that start no process, browser or server and take less than a second each: a minute
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m "not slow"

check: $(INSTALLED)  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## The documentation as a site, site/index.html; its search needs `python -m http.server -d site`
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(INSTALLED)  ## The benchmarks, their figures also in reports/benchmarks/; DATASET=PATH for an image folder
	mkdir -p reports/benchmarks
	set -e; for name in training pruning tracking scaling coordination; do \
		$(BIN)/python -m benchmarks.$$name --json reports/benchmarks/$$name.json; done
	set -e; for name in search memory startup; do \
		$(BIN)/python -m benchmarks.$$name --dataset $(DATASET) --json reports/benchmarks/$$name.json; done

# The kills go on where they were stopped; FAULTS="--fresh --kills 50 --only retrain" and the like choose (see --help).
faults: $(INSTALLED)  ## 200 kills of real processes, 1,000 trials of 8 workers, a Ray node and its driver killed, thousands of bad inputs, a server away: hours
	failed=0; \
	$(BIN)/python -m tests.faults $(FAULTS) || failed=1; \
	$(BIN)/python -m tests.faults.load || failed=1; \
	$(BIN)/python -m tests.faults.machines || failed=1; \
	$(BIN)/python -m pytest tests/pipelines/session/test_cluster.py || failed=1; \
	STUDY_TEST_PROFILE=long $(BIN)/python -m pytest --timeout 0 tests/whole/test_bad_input.py tests/whole/test_bad_archives.py || failed=1; \
	STUDY_TEST_AWAY=30 $(BIN)/python -m pytest tests/whole/test_server_faults.py -k stopped_for_a_while || failed=1; \
	exit $$failed

clean:  ## The environment and caches; never what the study recorded
	rm -rf .venv .coverage* .pytest_cache .mypy_cache .ruff_cache *.egg-info build site

# The stamp is written last, so an interrupted installation is made anew.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "study needs Python 3.11 or newer: set PYTHON=python3.x")'
	@echo "Installing into .venv: torch with its GPU libraries, MLflow, Optuna and others, 6 GB, 3 to 6 minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
