# The two commands to start with are `make demo` and `make test`; each makes the environment it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# What the benchmarks that need real images train on: cifar10, or the path of an image folder.
DATASET ?= cifar10

.PHONY: demo test check format bench faults clean

demo: $(INSTALLED)  ## The whole study on the bundled digits: search, retrain and analyse both models
	$(BIN)/study reproduce --dataset digits

# As many at a time as there are cores, up to four; a file's tests stay together, since they share what is slow to make.
test: $(INSTALLED)  ## All tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

check: $(INSTALLED)  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## The benchmarks, their figures also in reports/benchmarks/; DATASET=PATH for an image folder
	mkdir -p reports/benchmarks
	set -e; for name in training pruning tracking scaling; do \
		$(BIN)/python -m benchmarks.$$name --json reports/benchmarks/$$name.json; done
	set -e; for name in search memory startup; do \
		$(BIN)/python -m benchmarks.$$name --dataset $(DATASET) --json reports/benchmarks/$$name.json; done

# Goes on where it was stopped; FAULTS="--fresh --kills 50 --only retrain" and the like choose (see --help).
faults: $(INSTALLED)  ## Kill real processes 200 times and see that nothing is lost: hours; the table in reports/faults.md
	$(BIN)/python -m tests.faults $(FAULTS)

clean:  ## The environment and caches; never what the study recorded
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info build

# The stamp is written last, so an interrupted installation is made anew.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "study needs Python 3.11 or newer: set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
