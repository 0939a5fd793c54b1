# `make help` lists the targets.
VENV ?= .venv
PYTHON ?= python3
# Empty: as the environment was installed before, pip for a new one.
DETECTRON2 ?=
RUN := $(VENV)/bin/python
RUFF := $(VENV)/bin/ruff

UV ?= $(VENV)/bin/uv
# torch and what comes with it is not locked: it depends on the graphics card.
NOT_LOCKED := torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-, \
    cublas cuda-cccl cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver \
    cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)
LOCK = $(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    $(addprefix --no-emit-package ,$(NOT_LOCKED))

.PHONY: help install install-dev test test-slow lint lock bench serve demo clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

install:  ## environment, torch, Detectron2, this project [VENV=.venv PYTHON=python3 DETECTRON2=pip|git|skip|FOLDER]
	@bash tools/install.sh "$(VENV)" "$(PYTHON)" "$(DETECTRON2)" runtime

install-dev:  ## the same with what tests and checks need
	@bash tools/install.sh "$(VENV)" "$(PYTHON)" "$(DETECTRON2)" dev

test: install-dev  ## all but the long tests, with coverage
	$(RUN) -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

test-slow: install-dev  ## the long tests only
	$(RUN) -m pytest -m slow

lint: install-dev  ## ruff, ruff format, mypy
	$(RUFF) check .
	$(RUFF) format --check .
	$(RUN) -m mypy

lock:  ## choose the newest versions of all packages anew: requirements/*.txt
	command -v "$(UV)" >/dev/null || $(RUN) -m pip install uv
	printf 'setuptools>=77\nwheel\n' | $(LOCK) - -o requirements/build.txt
	$(LOCK) setup.cfg -c requirements/build.txt --extra dev -o requirements/dev.txt
	$(LOCK) setup.cfg -c requirements/build.txt -c requirements/dev.txt --extra serve --extra export -o requirements/runtime.txt

bench: install  ## compare the backbones: benchmark_out/benchmark.md
	$(RUN) tools/benchmark.py --output benchmark_out

serve: install  ## the server with the shipped checkpoint, on port 8000
	$(RUN) -m serve

demo: install  ## everything once on drawn photos: demo_out/index.html [IMAGES=DIR MASKS=DIR]
	$(RUN) tools/demo.py --output demo_out $(if $(IMAGES)$(MASKS),--images "$(IMAGES)" --masks "$(MASKS)")

clean:  ## what the other targets left, the environment apart
	rm -rf build dist demo_out benchmark_out *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .coverage*
