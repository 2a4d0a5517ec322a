# Two commands on a fresh machine: `make demo` shows it, `make test` proves it.
# Everything lives in .venv; nothing is installed outside it but Chromium, and that only where the system allows.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
FUZZ_EXAMPLES ?= 20000

.PHONY: help demo test check format words bench suites faults fuzz pictures clean

help:
	@echo "make demo    a shop, a crowd of 2,000, and the waiting room between them (DEMO_ARGS='--visitors 300')"
	@echo "make test    everything that can fail, on real servers and real sockets"
	@echo "make faults  200 processes killed at random, and everything else that may befall a house"
	@echo "make fuzz    20,000 generated conversations through a whole house, other ones each time (FUZZ_EXAMPLES=…)"
	@echo "make check   format, lint, types and the floors of the house"
	@echo "make bench   every figure, as ratios against a peer in the same run"
	@echo "make suites  other people's suites for WebSockets and HTTP caches, through Waitroom and through nginx"
	@echo "make words   every sentence of the templates into the catalogues of the languages"
	@echo "make pictures  the pictures of the documentation, taken by Chromium"
	@echo "make clean   remove what the others made"

demo: $(VENV)/demo.stamp
	$(BIN)/waitroom demo $(DEMO_ARGS)

test: $(VENV)/test.stamp
	$(PYTHON) tools/programs.py $(BIN)
	$(BIN)/coverage run -m pytest -q tests/core
	$(BIN)/coverage report
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore=tests/core

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py

words: $(VENV)/test.stamp
	$(BIN)/python tools/words.py

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(VENV)/test.stamp
	KILLS=200 $(BIN)/python -m pytest -q tests/faults

fuzz: $(VENV)/test.stamp
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -q tests/test_fuzz.py

pictures: $(VENV)/test.stamp
	$(PYTHON) tools/programs.py $(BIN)
	$(BIN)/python tools/pictures.py

bench: $(VENV)/bench.stamp
	$(BIN)/python bench/forward.py
	$(BIN)/python bench/poll.py
	$(BIN)/python bench/fairness.py
	$(BIN)/python bench/memory.py

suites: $(VENV)/bench.stamp
	$(BIN)/python bench/conformance.py
	$(BIN)/python bench/suites.py

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/demo.stamp: pyproject.toml
	$(PYTHON) tools/environment.py $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	touch $@

$(VENV)/bench.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@
