# make demo: from nothing to a page of discovered clusters. make test: all tests. make bench: our code beside others'.
# make reproduce: the methods' claims. make objectives: what each learns. All of them make their own environment.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO ?= demo
SEEDS ?= 0
# further options of the demo's training
TRAIN ?=
# further options of pytest
PYTEST ?=
comma := ,
space := $() $()

# benchmarks that `make bench` runs, as make bench BENCH="sinkhorn loader", and the options of each
BENCH ?= contrast sinkhorn alignment evaluate loader step
BENCH_sinkhorn ?= sizes=[10000x100,50000x100] plain_seconds=20 pot_rows=10000
BENCH_alignment ?= swaps=5000
BENCH_evaluate ?= gallery=4000 queries=1000 dim=1024
BENCH_loader ?= items=4 steps=5 batch=8
BENCH_step ?= files=4 batch=4 steps=8

.PHONY: install system demo bench reproduce reproduce-quick pilot hypotheses objectives localisation test pytest docs check clean

# with make -j 2, one beside the other
install: system $(VENV)/.installed

# FFmpeg's shared libraries, for the decoder torchcodec, and the browser that opens the explorer in its tests: installed
# where that can be done unasked, else done without.
system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! ldconfig -p | grep -q libavcodec; then \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ffmpeg; } >/dev/null 2>&1 || true; \
	fi
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromium >/dev/null; then \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 || true; \
	fi

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/avssl sample out=$(DEMO)/sample
	$(BIN)/avssl index data.root=$(DEMO)/sample data.index=$(DEMO)/index
	for seed in $(SEEDS); do \
	  $(BIN)/avssl train experiment=sample data.root=$(DEMO)/sample data.index=$(DEMO)/index seed=$$seed $(TRAIN) \
	    out=$(DEMO)/run_seed$$seed && \
	  $(BIN)/avssl clusters run=$(DEMO)/run_seed$$seed floors=true || exit 1; \
	done
	$(BIN)/avssl summary runs=[$(subst $(space),$(comma),$(foreach seed,$(SEEDS),$(DEMO)/run_seed$(seed)))]
	@echo "open $(DEMO)/run_seed$(firstword $(SEEDS))/clusters/explorer/index.html"

# every claim of experiments/plan.yaml, too small to decide them: is anything broken?
reproduce-quick: install
	$(BIN)/python -m experiments reproduce profile=quick

# every claim, as experiments/plan.yaml says: many core-hours; repeat the command to resume
reproduce: install
	$(BIN)/python -m experiments reproduce

# how many seeds the plan needs, and what fits into its core-hours
pilot: install
	$(BIN)/python -m experiments pilot

# GDT's nine hypotheses: about an hour
hypotheses: install
	$(BIN)/python -m experiments hypotheses

# what every objective learns: about half an hour
objectives: install
	$(BIN)/python -m experiments objectives

# where the sound is, and a detector without labels: about two hours
localisation: install
	$(BIN)/python -m experiments localisation

# some minutes, with tables in bench/. The benchmark of heads needs trained runs:
# make bench BENCH=heads BENCH_heads=runs=[runs/a,runs/b]
bench: install
	$(foreach name,$(BENCH),$(BIN)/python -m benchmarks $(name) out=bench $(BENCH_$(name)) &&) true

test: pytest
	$(MAKE) -j 2 check docs

# many tests wait for processes that they start, or for SLURM: three at a time take two cores, with a thread each. The
# tests of a file stay together, as they share what they make; the files that take longest come first (tests/conftest.py).
pytest: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

# the documentation as a site, in site/
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(DEMO) bench build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
