# make run    draw street scenes, train a U-Net on them, paint the test scenes (a few minutes)
# make test   all tests
# Both make .venv and install what they need first. PYTHON=python3.12 picks another Python.
PYTHON ?= python3
BIN = .venv/bin
# pip compiles every file of every package, with one core, half a minute; a program compiles those
# that it imports. The tests start many programs, so for them all are compiled, with all cores.
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

run: .venv/run
	$(BIN)/python main.py sample

test: .venv/test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/test
	for name in augment count pipeline predict presets scale step; do $(BIN)/python bench/$$name.py || exit 1; done

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

.venv/test: requirements.txt tests/requirements.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r tests/requirements.txt
	$(BIN)/python -m compileall -q -j 0 .venv/lib
	touch $@ .venv/run

.PHONY: run test lint bench
