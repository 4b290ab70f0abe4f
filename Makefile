# make demo   sets everything up and turns a sentence into out/arcade.wav
# make test   sets everything up and runs the tests
# make check  format, lint, types, tests
# make slow   the tests that take minutes
# make faults kills every command again and again, fills its disk, tears its files: nothing may be lost
# make shapes tests of models, evaluation and command line with the shapes in signatures checked

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PROMPT := The main soundtrack of an arcade game. It is fast-paced and upbeat, with a catchy electric guitar riff. The music is repetitive and easy to remember, but with unexpected sounds, like cymbal crashes or drum rolls.

.PHONY: demo test slow faults shapes check format lint types tiny clean

$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "musiclm needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip setuptools wheel
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e .
	touch $@

$(VENV)/dev: $(VENV)/base
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[train,eval,corpus,serve,cluster,dev]'
	$(BIN)/pip install --quiet --no-deps musicnn==0.1.0 basic-pitch==0.4.0 aisfx==0.1.2
	touch $@

demo: $(VENV)/base
	mkdir -p out
	$(BIN)/musiclm generate "$(PROMPT)" --duration 10 --output out/arcade.wav

# a process a core, each with whole files of tests and one thread
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --dist loadfile

test: $(VENV)/dev
	$(PYTEST)

slow: $(VENV)/dev
	$(BIN)/python -m pytest -q -m slow

# COUNT kills in all; about half an hour on an idle core
COUNT ?= 100
SEED ?= 0
faults: $(VENV)/dev
	mkdir -p out
	$(BIN)/python -m tests.faults --count $(COUNT) --seed $(SEED) --out out/faults.json

# the same with the shapes and types in signatures checked at each call, where tensors and arrays go; twice as slow
shapes: $(VENV)/dev
	$(PYTEST) --jaxtyping-packages='musiclm,beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))' tests/nn tests/models tests/evaluate tests/cli tests/test_shapes.py tests/test_streaming.py

format: $(VENV)/dev
	$(BIN)/ruff format src tests runs benchmarks

lint: $(VENV)/dev
	$(BIN)/ruff format --check src tests runs benchmarks
	$(BIN)/ruff check src tests runs benchmarks

types: $(VENV)/dev
	$(BIN)/mypy

check: lint types test

tiny: $(VENV)/dev
	MUSICLM=$(BIN)/musiclm PYTHON=$(BIN)/python runs/tiny.sh

clean:
	rm -rf $(VENV) out build src/*.egg-info
