# `make run` trains the tiny preset in the console; `make test` checks everything. Both set up .venv first.
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check tests docs torture screenshot clean

run: $(VENV)/.run
	$(BIN)/fllm-tui --preset tiny --start

test: check tests

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(VENV)/.test
	$(BIN)/pytest -q -n 3 --dist loadfile  # many tests wait: three at once keep two cores busy

docs: $(VENV)/.run
	$(BIN)/python docs/settings.py
	$(BIN)/python docs/keys.py

torture: $(VENV)/.test
	$(BIN)/python -m tests.torture
	$(BIN)/pytest -q -m slow

screenshot: $(VENV)/.test
	$(BIN)/python docs/screenshot.py

$(VENV)/.run: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist
