# Each target installs what it needs. A fresh machine only needs Python 3.11 or newer and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
OUT ?= runs/demo
EPOCHS := 60
SEEDS := 3
export OMP_NUM_THREADS ?= 1

.PHONY: help demo first-screen test test-all check lint types docs docs-serve browser ray bench soak pictures defaults dependencies audit dist figures ablations studies diagnoses media league pretrained method-index task-tables keywords clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## Compare D&R with its baselines on real data, and write a report.
	$(BIN)/equipoise compare --data htad --methods references ogm-ge diagnose-relearn \
		--seeds $(SEEDS) --epochs $(EPOCHS) --diagnose-every 6 --out $(OUT) $(if $(wildcard $(OUT)),--resume)

# A test builds the site, as strictly as `make docs` does.
test: browser $(VENV)/.dev  ## Run the checks and the tests, without the full test matrix (within eight minutes).
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not matrix'

test-all: check browser  ## Run the checks and all tests, including the full matrix, multi-process and soak tests.
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.dev  ## Run the static checks.
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types docs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .

types: $(VENV)/.dev
	$(BIN)/mypy

# Not --quiet, because it would hide warnings from --strict as well. The theme's notice about MkDocs 2 does not apply here.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.dev  ## Build the documentation site into site/; a broken link is an error.
	$(BIN)/mkdocs build --strict

PORT ?= 8000
docs-serve: docs  ## Serve the built site at http://localhost:8000 (PORT=N for another port).
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site $(PORT)

browser:  ## Install Chromium, which tests the reports, if it is missing and EQUIPOISE_NO_BROWSER is not set.
	@[ -n "$(EQUIPOISE_NO_BROWSER)" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
		|| command -v google-chrome >/dev/null || $(MAKE) --no-print-directory install-chromium

.PHONY: install-chromium
install-chromium:
	@command -v apt-get >/dev/null || { echo "apt-get not found: install Chromium yourself, or skip its tests with EQUIPOISE_NO_BROWSER=1" >&2; exit 1; }
	$(SUDO) apt-get update --quiet --quiet
	$(SUDO) apt-get install --yes --quiet --quiet --no-install-recommends chromium fonts-dejavu-core >/dev/null

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

ray: $(VENV)/.dev  ## Install Ray, and run the tests of its executor.
	$(PIP) --editable '.[ray]'
	$(BIN)/python -m pytest tests/experiments/grid/test_ray.py

.PHONY: trackers
trackers: $(VENV)/.dev  ## Install Weights & Biases and MLflow, and run the tests of both (offline).
	$(PIP) --editable '.[wandb,mlflow]'
	$(BIN)/python -m pytest tests/tracking

# LINES="a d" measures some lines, and again; QUICK=1 is a trial whose figures mean nothing, ANEW=1 begins anew.
LINES :=
bench: $(VENV)/.dev  ## Measure speed, as ratios of alternating measurements (forty minutes).
	$(PIP) --editable '.[bench]'
	$(BIN)/python benchmarks/speed $(LINES) $(if $(ANEW),--anew) \
		$(if $(QUICK),--quick --out runs/speed-quick --page runs/speed-quick/performance.md)

soak: $(VENV)/.dev browser  ## Kill commands, open damaged and hostile files, write docs/results/reliability.md (hours; SOAK="--times .1").
	-$(PIP) atheris  # where it is to be had: it searches inputs
	$(BIN)/python benchmarks/soak $(SOAK)

pictures: $(VENV)/.dev  ## Draw the figures of docs/how-it-works.md from two runs on synthetic data (half a minute).
	$(BIN)/python benchmarks/how_it_works.py runs/how-it-works docs/images

figures: $(VENV)/.dev browser  ## Write the results pages and the README figure from a new demo run.
	$(MAKE) demo OUT=runs/figures
	$(BIN)/python benchmarks/results.py runs/figures docs/results/htad.md docs/images/report.png
	$(BIN)/equipoise compare --data htad --methods references ogm-ge diagnose-relearn --seeds 10 \
		--split-seed run --out runs/figures-splits --resume
	$(BIN)/python benchmarks/results.py runs/figures-splits docs/results/htad-splits.md

defaults: $(VENV)/.dev needs-source  ## Compare the recipes with other settings, on validation, with SOURCE=DIR (an hour).
	$(BIN)/python benchmarks/defaults.py $(SOURCE) runs/defaults docs/results/defaults.md

# Named datasets from the archives in SOURCE. Relative paths keep the location of the data out of the run records.
SETS := runs/sets
PREPARE = $(BIN)/equipoise prepare $(1) --source $(SOURCE) --out $(SETS)/$(1) --overwrite

STUDIES := docs/results/methods
STUDIED := cmu-mosi avletters
studies: $(VENV)/.dev  ## Compare all methods on HTAD, and with SOURCE=DIR on two more datasets (an hour).
	$(BIN)/equipoise compare --data htad --methods all --seeds 10 --split-seed run --out runs/studies/htad --resume \
		|| [ $$? = 1 ]
	$(BIN)/equipoise compare --data htad --methods references greedy diagnose-relearn --seeds 10 \
		--split-seed run --fusion mmtm --out runs/studies/htad-mmtm --resume
	$(BIN)/python benchmarks/results.py runs/studies/htad $(STUDIES)-htad.md
	$(BIN)/python benchmarks/results.py runs/studies/htad-mmtm $(STUDIES)-htad-mmtm.md
ifdef SOURCE
	@# The code 1 says that some runs failed. The pages name them.
	for set in $(STUDIED); do \
		$(BIN)/equipoise prepare $$set --source $(SOURCE) --out $(SETS)/$$set --overwrite && \
		$(BIN)/equipoise compare --data $(SETS)/$$set --methods all --seeds 3 --out runs/studies/$$set --resume \
			|| [ $$? = 1 ] || exit 1; \
		$(BIN)/python benchmarks/results.py runs/studies/$$set $(STUDIES)-$$set.md || exit 1; \
	done
	$(call PREPARE,phone-watch)
	$(BIN)/python benchmarks/method_defaults.py $(SETS)/phone-watch docs/results/method-defaults.md
	$(BIN)/python benchmarks/results.py --across $(STUDIES)-across.md docs/images/critical-difference.svg \
		$(addprefix runs/studies/, htad $(STUDIED))
endif

EXAMINED := runs/diagnoses
TRAIN := $(BIN)/equipoise train --trace --resume
diagnoses: $(VENV)/.dev  ## Evaluate the estimators and verdicts; with SOURCE=DIR also diagnose runs on real data.
	$(BIN)/python benchmarks/estimators.py docs/results/diagnosis.md $(if $(SOURCE),--mosi $(SOURCE)/mosi_utt.npz)
	$(BIN)/python benchmarks/verdicts.py docs/results/verdicts.md
ifdef SOURCE
	$(call PREPARE,avletters)
	$(call PREPARE,cmu-mosi)
	$(call PREPARE,egogestar)
	$(TRAIN) --data htad --method diagnose-relearn --out $(EXAMINED)/htad-diagnose-relearn
	$(TRAIN) --data htad --method joint --out $(EXAMINED)/htad-joint
	$(TRAIN) --data $(SETS)/avletters --method diagnose-relearn \
		--out $(EXAMINED)/avletters-diagnose-relearn
	$(TRAIN) --data $(SETS)/avletters --method joint --out $(EXAMINED)/avletters-joint
	$(TRAIN) --data $(SETS)/cmu-mosi --method joint --out $(EXAMINED)/cmu-mosi-joint
	$(TRAIN) --data $(SETS)/egogestar --method joint --out $(EXAMINED)/egogestar-joint
	$(BIN)/python benchmarks/diagnoses.py docs/results/diagnoses.md docs/images $(addprefix $(EXAMINED)/, \
		avletters-diagnose-relearn avletters-joint htad-diagnose-relearn htad-joint cmu-mosi-joint \
		egogestar-joint)
endif

MEDIA := runs/media
MEDIA_SETS := avletters egogestar phone-watch cmu-mosi fsdd-mnist
# One clip of the test split of egogestar is .023, so it has more seeds.
media: $(VENV)/.dev needs-source  ## Prepare and compare five datasets, all by default, with SOURCE=DIR (an hour).
	for set in $(MEDIA_SETS); do \
		seeds=3; [ $$set != egogestar ] || seeds="12 --split-seed run"; \
		$(BIN)/equipoise prepare $$set --source $(SOURCE) --out $(SETS)/$$set --overwrite && \
		$(BIN)/equipoise compare --data $(SETS)/$$set --methods joint unimodal diagnose-relearn --seeds $$seeds \
			--out $(MEDIA)/$$set --resume && \
		$(BIN)/python benchmarks/results.py $(MEDIA)/$$set docs/results/media-$$set.md || exit 1; \
	done

# LEAGUE="--sets htad avletters", or "--anew METHOD"; see the help of benchmarks/league.
LEAGUE :=
league: $(VENV)/.dev needs-source  ## Compare all methods on ten datasets, with SOURCE=DIR; it goes on where it stopped (hours).
	$(BIN)/python benchmarks/league $(SOURCE) $(LEAGUE)

ABLATED := modality strength ruler allocation rates resets distillation state layers output
ablations: $(VENV)/.dev  ## Run all ablations of diagnose-relearn-plus on HTAD, clean and noisy (an hour).
	@# The code 1 says that some runs failed. The notes name them.
	for name in $(ABLATED); do \
		$(BIN)/equipoise reproduce ablation-$$name --out runs/ablations --resume || [ $$? = 1 ] || exit 1; \
	done
	$(BIN)/python benchmarks/ablations.py runs/ablations docs/results/ablations.md

first-screen: $(VENV)/.dev needs-source  ## Write the example of README and the site's first page, with SOURCE=DIR (ten minutes).
	$(BIN)/python benchmarks/first_screen.py $(SOURCE) runs/first-screen

pretrained: $(VENV)/.dev needs-source  ## Evaluate re-learning of pretrained encoders, with SOURCE=DIR (ten minutes).
	$(call PREPARE,phone-watch)
	$(BIN)/python benchmarks/pretrained.py $(SETS)/phone-watch runs/pretrained docs/results/pretrained.md

.PHONY: needs-source
needs-source:
	@test -n "$(SOURCE)" || { echo "SOURCE is not set; give the folder of the archives: make $(firstword $(MAKECMDGOALS)) SOURCE=DIR" >&2; exit 1; }

method-index: $(VENV)/.dev  ## Write the index of the method pages.
	$(BIN)/python benchmarks/method_index.py docs/methods/README.md

task-tables: $(VENV)/.dev  ## Write the tables of docs/tasks.md.
	$(BIN)/python benchmarks/task_tables.py docs/tasks.md

keywords: $(VENV)/.dev  ## Write the types of keyword options and methods for editors.
	$(BIN)/python benchmarks/keywords.py src/equipoise

dependencies: $(VENV)/.dev  ## Write the list of the dependencies and their licences.
	$(BIN)/python benchmarks/dependencies.py docs/dependencies.md

# --strict: a package that the lists do not know is an error, as it is where pypi.org cannot be reached.
audit: $(VENV)/.dev  ## Look for known holes in the dependencies (needs pypi.org).
	$(PIP) pip-audit
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

# Five minutes for each Python, and five gigabytes in TMPDIR where torch comes with CUDA.
PYTHONS :=
dist: $(VENV)/.dev  ## Build wheel and source archive, and try the wheel in new environments (PYTHONS="3.11 3.12" for some).
	$(PIP) build twine
	$(BIN)/python benchmarks/distribution.py $(if $(PYTHONS),--pythons $(PYTHONS))

clean:  ## Remove the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Equipoise needs Python 3.11 or newer; choose one with make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Install torch first, so that other packages use the pinned build instead of installing another one.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) --editable '.[demo]'
	@$(BIN)/equipoise list methods >/dev/null # fills the cache of `equipoise list`
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --editable '.[demo,dev,docs,hub,lightning,media,onnx,table,tensorboard,transformers,tune]'
	@touch $@
