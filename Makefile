# Two commands do all: `make run` starts Sercha on this folder's docs, `make test` runs every test that
# needs no root. Both install what they need into .venv first; Python 3.11 or newer and make are enough.

# The first of these that is new enough; override with `make PYTHON=/path/to/python3.12 ...`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DATA_DIR ?= .sercha
PORT ?= 8080
PYTEST_ARGS ?=

.PHONY: install run test check bench proof simulate containers lock clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make /make /p' Makefile

# make install   .venv with everything, and the commands sercha and lockd in it
install: $(VENV)/.complete

$(VENV)/.complete: requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; say make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| "$(PYTHON)" -m venv --clear $(VENV) \
		|| { "$(PYTHON)" -m venv --clear --without-pip $(VENV) && "$(PYTHON)" -m pip --python $(BIN)/python install -q pip; } \
		|| { echo "make: $(PYTHON) can make no virtual environment; install its venv package (Debian: python3-venv)" >&2; exit 2; }
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# make run       start Sercha with everything embedded, with docs/ as its first source
run: install
	$(BIN)/sercha up --data-dir $(DATA_DIR) --port $(PORT) --index docs

# make test      all tests that need no root (as root also those that do), in three processes: many wait
test: install
	SERCHA_SIM_SEEDS=500 $(BIN)/python -m pytest -m "not proof and not containers" -n 3 --dist loadfile \
		--no-loadscope-reorder $(PYTEST_ARGS)

# make check     formatting, lint, types, import contracts
check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	git grep -lE "\basync\b|\btrio\b|BaseException" -- "sercha/*.py" "lockd/*.py" | xargs $(BIN)/flake8-async \
		--enable ASYNC101,ASYNC103,ASYNC106,ASYNC111,ASYNC112,ASYNC118,ASYNC119,ASYNC121,ASYNC123
	$(BIN)/pyright
	$(BIN)/lint-imports

# make bench     measurements, as ratios against a peer or a floor of the same run
bench: install
	for program in benchmarks/*.py; do $(BIN)/python "$$program" || exit 1; done

# make proof     the long runs: APIs killed behind nginx, hosts cut off, queues tortured, the standard library indexed
proof: install
	$(BIN)/python -m pytest -m "proof" -s -o faulthandler_timeout=0 $(PYTEST_ARGS)

# make simulate  leases under faults: SEEDS seeds, then each mutant until a seed kills it
SEEDS ?= 5000
simulate: install
	SERCHA_SIM_SEEDS=$(SEEDS) $(BIN)/python -m pytest -m "not proof" -s $(PYTEST_ARGS) tests/simulation

# make containers  the deployments of docker/ for real, with faults; needs a Docker engine with Compose
containers: install
	$(BIN)/python -m pytest -m "containers and not proof" -s -o faulthandler_timeout=600 $(PYTEST_ARGS) tests/containers

# make lock      resolve requirements/*.txt anew (needs uv)
lock:
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate -q \
		pyproject.toml --extra embedded -o requirements/runtime.txt
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate -q \
		pyproject.toml -c requirements/runtime.txt -o requirements/image.txt
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate -q \
		pyproject.toml --extra embedded --group dev -c requirements/runtime.txt -o requirements/dev.txt

# make clean     remove what install and the tools made; the data folder stays
clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +
