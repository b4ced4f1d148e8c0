# `make help` lists what there is.
# Everything is installed in .venv, from requirements.lock with its hashes; nothing else is touched.

VENV   := .venv
PYTHON := $(VENV)/bin/python
UV     := $(VENV)/bin/uv
READY  := $(VENV)/.ready

.PHONY: setup help demo test lint bench lock clean
.DEFAULT_GOAL := setup

setup: $(READY)

help:
	@echo "make        install asr into $(VENV), 6 GB with torch and Ray: some minutes the first time"
	@echo "make demo   install, make a corpus, train a model on it and score it"
	@echo "make test   install, run the whole test suite"
	@echo "make lint   formatting, rules, types, imports"
	@echo "make bench  the benchmarks; with DATA=PATH those of an4/ and mini_librispeech/ in that folder too"
	@echo "make lock   resolve requirements.lock anew, after a change of pyproject.toml"
	@echo "make clean  remove $(VENV) and what was built; what was trained and prepared stays"

# Newer than both files: what is installed is what they say.
$(READY): requirements.lock pyproject.toml
	@rm -f $@
	@test -x $(PYTHON) || { \
	  for python in python3 python3.12 python3.11 python3.10; do \
	    $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	      && found=$$python && break; \
	  done; \
	  test -n "$$found" || { echo "Python 3.10, 3.11 or 3.12 is needed: install one of them." >&2; exit 1; }; \
	  $$found -m venv $(VENV) || { rm -rf $(VENV); echo "$$found has no venv: on Debian, apt-get install python3-venv." >&2; exit 1; }; }
	@test -x $(UV) || $(PYTHON) -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@test -x $(VENV)/bin/asr || echo "Installing what requirements.lock lists into $(VENV), 6 GB: some minutes the first time, without a word."
	$(UV) pip install --quiet --compile-bytecode --python $(PYTHON) --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	$(PYTHON) tools/demo.py

test: $(READY)
	$(PYTHON) -m pytest --numprocesses 3 --durations 15 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# With DATA=PATH, a folder that holds an4/ and mini_librispeech/, and the run of AN4 trained: all of them.
bench: $(READY)
	$(PYTHON) tools/bench_startup.py
	$(PYTHON) tools/bench_models.py
	$(PYTHON) tools/bench_sampling.py
	$(PYTHON) tools/bench_training.py --resume
ifdef DATA
	$(PYTHON) tools/bench_prepare.py mini_librispeech $(DATA)/mini_librispeech
	$(VENV)/bin/asr prepare recipe=an4 recipe.root=$(DATA)/an4
	$(PYTHON) tools/bench_sampling.py --corpus corpora/an4
	$(PYTHON) tools/bench_training.py recipe=an4
	$(PYTHON) tools/bench_training.py recipe=an4 trainer.threads=1 --against-loop
	$(PYTHON) tools/bench_training.py recipe=an4 --ranks 2
	$(PYTHON) tools/bench_transcribe.py runs/an4/base/model $(DATA)/an4/wav/an4test_clstk
endif

# After a change of pyproject.toml: every package, for every supported Python and system.
lock: $(UV)
	@echo "# Made by 'make lock' from pyproject.toml: every package of every supported Python, with its hashes." > requirements.lock.new
	$(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --extra dev --extra synth pyproject.toml >> requirements.lock.new
	@mv requirements.lock.new requirements.lock

# What was trained, prepared and downloaded stays.
clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find asr conf recipes tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
