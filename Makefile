# Everything a newcomer needs: `make demo`, then `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKSPACE ?= workspace
DATA ?= ../shared/data

.PHONY: help setup demo test test-slow lint format serve bench-setup bench docs pictures clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,serve,dev]'
	@touch $@

setup: $(VENV)/.ready  ## make .venv with everything (the other targets do it when needed)

demo: setup  ## a simulated shop from raw tables to a live, ranked answer
	$(BIN)/attune demo --workspace $(WORKSPACE)

test: setup  ## the tests, in minutes
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: setup  ## the long tests too
	$(BIN)/python -m pytest -q -ra

lint: setup  ## style, types, and the layers of docs/architecture.md
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: setup  ## the HTTP service on 127.0.0.1
	$(BIN)/attune serve --workspace $(WORKSPACE)

bench-setup: .venv-peers/.ready  ## the peers that benchmarks compare with, in an environment of their own

.venv-peers/.ready: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@

bench: setup  ## every benchmark that docs/benchmarks.md quotes
	$(BIN)/python -m benchmarks demo
	$(BIN)/python -m benchmarks simulate
	$(BIN)/python -m benchmarks faults
	$(BIN)/python -m benchmarks features
	$(BIN)/python -m benchmarks churn --data $(DATA)/online_retail
	$(BIN)/python -m benchmarks recommend-time-split --data $(DATA)
	$(BIN)/python -m benchmarks next-purchase --data $(DATA)/retailrocket
	$(BIN)/python -m benchmarks latency
	$(BIN)/python -m benchmarks serve
	$(BIN)/python -m benchmarks sequences --data $(DATA)/ml1m_sequences
	$(BIN)/python -m benchmarks sequences --data $(DATA)/beauty_sequences
	$(BIN)/python -m benchmarks collaborative --data $(DATA)/gowalla
	$(BIN)/python -m benchmarks classification --data $(DATA)/telco_churn/customers.parquet --target Churn --drop customerID
	$(BIN)/python -m benchmarks lifetime-value --data $(DATA)/cdnow
	$(BIN)/python -m benchmarks timing
	$(BIN)/python -m benchmarks uplift --data $(DATA)/hillstrom
	$(BIN)/python -m benchmarks offers --data $(DATA)/starbucks_offers
	$(BIN)/python -m benchmarks off-policy --data $(DATA)/open_bandit_men
	$(BIN)/python -m benchmarks variants --data $(DATA)/upworthy

docs: setup  ## write the pages that are made from code
	$(BIN)/python -m data.docs
	$(BIN)/python -m features.docs
	$(BIN)/python -m training.docs

SHOT = chromium-headless-shell --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=2000
PAGES = file://$(CURDIR)/build/shop/reports

pictures: setup  ## the pictures of docs/reports.md: Hillstrom's mails in DATA, a simulated shop (needs chromium-headless-shell)
	$(BIN)/attune simulate --users 20000 --days 180 --workspace build/shop
	$(BIN)/attune check --workspace build/shop > /dev/null
	$(BIN)/attune report uplift --campaign offers-005 --workspace build/shop
	$(BIN)/attune report uplift --experiment $(DATA)/hillstrom/customers.parquet --treatment segment --outcome visit \
		--money spend --cost 0.1 --margin 0.4 --currency USD --before recency,history,mens,womens,zip_code,newbie,channel \
		--rule "mens == 1 -> Mens E-Mail else Womens E-Mail" --to build/shop/reports --workspace build/shop
	$(SHOT) --window-size=1000,640 --screenshot=docs/report.png $(PAGES)/uplift.html
	$(SHOT) --window-size=1000,640 --screenshot=docs/report-campaign.png $(PAGES)/campaign-offers-005.html
	$(SHOT) --window-size=390,844 --blink-settings=preferredColorScheme=0 --screenshot=docs/report-phone.png $(PAGES)/uplift.html

clean:  ## remove what can be made again (not .venv)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
