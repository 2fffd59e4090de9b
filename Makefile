# The commands of this project. `make` alone lists them.
PYTHON ?= python3
BUDGET ?= toy

BIN    := .venv/bin
SITE   := _build/html/index.html
STAGE  := _build/book
TWINS  := notebooks_ipynb/.written

# Keep the tools from remarks that are no concern of a reader.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# Compile each module once, not in each of a hundred processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install book test lint types types-begun types-ended pytest test-slow notebooks data \
	bench clean flower-simulation flower-deployment

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' \
		| while IFS="$$(printf '\t')" read -r name what; do printf '  make %-18s %s\n' "$$name" "$$what"; done

# ---- Environment: installed once, again only when requirements.txt or pyproject.toml changes

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mpfl needs Python 3.11 or newer; say which: make PYTHON=python3.12 book"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.requirements: requirements.txt | $(BIN)/python
	@echo "Installing requirements.txt into .venv (the first time: some minutes, about 6 GB)"
	@$(BIN)/python -m pip install -qq --no-input -r requirements.txt
	@touch $@

.venv/.mpfl: pyproject.toml .venv/.requirements
	@$(BIN)/python -m pip install -qq --no-input --no-deps --editable .
	@touch $@

install: .venv/.mpfl  ## create .venv with everything pinned in it

# Small networks gain nothing from threads, and wait for each other where other work is going on:
# one thread for tests, book and toy notebooks.

# ---- Book

# The text of a notebook that changed goes into its .ipynb; outputs that a reader has there stay.
$(TWINS): $(wildcard notebooks/*.md) | install
	@mkdir -p notebooks_ipynb
	@$(BIN)/jupytext --quiet --from notebooks//md:myst --to notebooks_ipynb//ipynb --update $?
	@touch $@

# Every notebook runs once, and the book is built from a folder that holds them executed.
book: install $(TWINS)  ## build the book, strictly; prints the page to open
	@rm -rf _build/html $(STAGE) && mkdir -p $(STAGE)
	@echo "Building the book: every notebook runs, every warning counts."
	@OMP_NUM_THREADS=1 $(BIN)/python book/run.py _build/executed >_build/book.log 2>&1 \
		|| { cat _build/book.log; echo "A notebook failed: see above."; exit 1; }
	@cp -R _config.yml _toc.yml book notebooks notebooks_ipynb $(STAGE)
	@cp _build/executed/*.ipynb $(STAGE)/notebooks
	@$(BIN)/jupyter-book build $(STAGE) --path-output . --all -W -n --keep-going -q >_build/book.log 2>&1 \
		|| { cat _build/book.log; echo "The book was not built: see above."; exit 1; }
	@$(BIN)/python book/check.py
	@echo "Open this page:"
	@echo "$(CURDIR)/$(SITE)"

# ---- Checks

test: lint types-begun book types-ended pytest  ## every check: style, imports, types, the book, the tests

lint: install  ## ruff and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: install  ## mypy
	@$(BIN)/mypy

# In `make test`, mypy takes the core that is idle once the notebooks have run.
types-begun: install
	@mkdir -p _build && rm -f _build/mypy.status
	@{ nice $(BIN)/mypy >_build/mypy.log 2>&1; echo $$? >_build/mypy.status; } &

types-ended:
	@until [ -s _build/mypy.status ]; do sleep 1; done
	@cat _build/mypy.log && exit $$(cat _build/mypy.status)

pytest: install  ## the tests alone (those of the book look at what `make book` built)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m "not endurance"

test-slow: install  ## the tests that kill and freeze processes of a deployment (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "endurance and not overnight" tests/test_flower_endurance.py tests/test_flower_signals.py

# ---- Work

notebooks: install  ## run every notebook, BUDGET=toy|laptop|paper, into _build/notebooks
	@$(if $(filter toy,$(BUDGET)),OMP_NUM_THREADS=1) $(BIN)/python book/run.py _build/notebooks \
		--budget $(BUDGET) --jobs $(if $(filter toy,$(BUDGET)),2,1)

# ---- Between machines: all of a Flower run here, on CIFAR-10; ARGUMENTS='--budget laptop ...'

ARGUMENTS ?=

flower-simulation: install data/cifar10  ## a run on Flower with virtual nodes, in one place
	@$(BIN)/python -m mpfl.flower simulation cifar10-vgg11 $(ARGUMENTS)

flower-deployment: install data/cifar10  ## a run on Flower, a process per node, with TLS and keys
	@$(BIN)/python -m mpfl.flower deployment cifar10-vgg11 $(ARGUMENTS)

bench: install data/cifar10  ## measure speed and bytes into benchmarks/results.json (half an hour)
	@$(BIN)/python -m benchmarks

data/cifar10:
	@$(MAKE) data

data: install  ## download CIFAR-10 (about 140 MB) into data/
	@$(BIN)/python -m mpfl data cifar10

clean:  ## remove what was built; .venv, data and runs stay
	rm -rf _build notebooks_ipynb .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache mpfl.egg-info
	find mpfl tests book -name __pycache__ -type d -prune -exec rm -rf {} +
