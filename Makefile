# Every command of the project. `make help` explains them. Variables: PYTHON, PIP_FLAGS, ONLY (see README).
PYTHON ?= python3
PY := .venv/bin/python
export PIP_FLAGS ONLY

.PHONY: help venv book test lab notebooks bench paper mutants lock clean

help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

venv:
	@$(PYTHON) tools/bootstrap.py

book: venv  ## run what changed, build the site in _build/html
	@$(PY) tools/book.py

test: venv  ## prove every claim again: code, notebooks, site in a browser
	@$(PY) tools/test.py

lab: venv  ## open the chapters in JupyterLab
	@$(PY) -m jupyterlab book

notebooks: venv  ## run every notebook (or ONLY=part/chapter) and store its outputs
	@$(PY) tools/notebooks.py --store $(ONLY)

bench: venv  ## time each kernel against its peers, write book/data/how_fast.json
	@$(PY) benchmarks/run.py

paper: venv  ## heavy runs at the size of the papers, resumable, write book/data
	@$(PY) tools/paper.py $(ONLY)

mutants: venv  ## plant each known error and see its test fail
	@$(PY) tools/mutants.py $(ONLY)

lock: venv  ## write requirements.lock and environment.yml from what is installed
	@$(PY) tools/lock.py

clean:  ## remove what the commands above made (.venv and _build)
	rm -rf .venv _build
