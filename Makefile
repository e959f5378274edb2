# make demo    napari with the dock on the sample scan; without a display the same journey into demo-output/
# make test    the whole test suite under a virtual display           (ARGS="-k manifest" to choose tests)
# make test QT_API=pyside6    the same with PySide6 instead of PyQt6
# make check   ruff, mypy and the import rules
# make bench   the benchmarks
# make torture the long harnesses: damaged files, hostile checkpoints, no memory, no disk, kills, every orientation
# make screenshots    the pictures of the documentation, from the shipped models and samples
#
# Each does all the set-up it needs, system packages included.

export QT_API ?= pyqt6
PYTHON_BIN := .venv/bin/python
ARGS ?=

.PHONY: demo test check bench torture screenshots setup samples clean

demo: setup
	@scripts/demo.sh $(ARGS)

test: setup
	@scripts/under_xvfb.sh $(PYTHON_BIN) -m pytest $(ARGS)

check: setup
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: setup
	@set -e; for file in $(wildcard benchmarks/*.py); do \
		echo "== $$file"; scripts/under_xvfb.sh $(PYTHON_BIN) $$file; done

torture: setup
	@failed=; for file in $(sort $(wildcard torture/*.py)); do \
		echo "== $$file"; scripts/under_xvfb.sh $(PYTHON_BIN) $$file $(ARGS) || failed="$$failed $$file"; \
	done; if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

screenshots: setup
	@scripts/under_xvfb.sh $(PYTHON_BIN) scripts/screenshots.py $(ARGS)

samples: setup
	$(PYTHON_BIN) sample_data/make_samples.py

setup:
	@scripts/setup.sh

clean:
	rm -rf .venv build dist demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
