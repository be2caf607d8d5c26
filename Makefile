# The two commands of the README are demo and test. ARGS is passed on:
#   make demo ARGS="--stores 2 --cameras 2 --duration 60 --seed 7 --report report.json"

ARGS ?=

.PHONY: demo test test-kubernetes setup lint bench lock clean

demo: ## set up and run the demonstration
	@scripts/setup.sh run
	@.venv/bin/python -m storefleet demo $(ARGS)

test: ## set up and run every check and test
	@scripts/setup.sh kubernetes
	@scripts/setup.sh models
	@scripts/test.sh

test-kubernetes: ## only the tests on real clusters and images (root; builds Kubernetes once, 5 to 20 minutes)
	@scripts/setup.sh kubernetes
	@.venv/bin/python -m pytest -q -m kubernetes --durations=10 tests/integration tests/e2e

setup: ## only set up
	@scripts/setup.sh run

lint: ## only the static checks
	@scripts/setup.sh test
	@scripts/lint.sh

bench: ## benchmarks, e.g. make bench ARGS="inventory --seeds 101,102 --json out.json"
	@scripts/setup.sh run
	@.venv/bin/python -m benchmarks.$(ARGS)

lock: ## pin the dependencies anew after a change of pyproject.toml
	@scripts/lock.sh

clean: ## remove what set-up and tests made in the checkout
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
