# `make repro` runs the whole pipeline, `make test` the tests; both set up the environment when it is missing.
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: repro grounding diffprompt test test-slow test-page install lint study study-grounding plan check-zero-shot check-grounding gpu-benchmarks pretrain detector clean

repro: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

# The second pipeline, in its own folder.
grounding: $(INSTALLED)
	cd grounding && PATH="$(CURDIR)/$(BIN):$$PATH" $(CURDIR)/$(BIN)/dvc repro

# Diff-Prompt in the second pipeline, beside the committed run; docs/diffprompt.md says how to go back.
diffprompt: $(INSTALLED)
	cd grounding && export PATH="$(CURDIR)/$(BIN):$$PATH" && { dvc exp remove --quiet diffprompt 2> /dev/null || true; } && \
		dvc exp run --name diffprompt --set-param method=diffprompt && dvc metrics diff

test test-slow: export OMP_NUM_THREADS := 1  # there are two test processes
test: CHOSEN := not slow
test-slow: CHOSEN := slow
test test-slow: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder -m '$(CHOSEN)'

# The page of `lpi serve` in Debian's Chromium, which is installed where it is missing. SHOTS=FOLDER keeps pictures of it.
test-page: export SHOTS := $(SHOTS)
test-page: $(INSTALLED)
	command -v chromium > /dev/null || { apt-get update && apt-get install --yes chromium; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[page]'
	$(BIN)/python -m pytest tests/page

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything in docs/results/study.csv that is missing (hours on 2 CPU cores), then the tables and figures made of it.
# `make study-grounding` does the same for the second pipeline, in docs/results/grounding_study.csv.
study study-grounding: export PATH := $(CURDIR)/$(BIN):$(PATH)
study: PIPELINE := retrieval
study-grounding: PIPELINE := grounding
study study-grounding: $(INSTALLED)
	python benchmarks/study.py --pipeline $(PIPELINE)
	python benchmarks/tables.py
	python benchmarks/figures.py

# What `make repro` would do, fetch and need; with FOLDER=grounding, what `make grounding` would.
FOLDER ?= .
plan: $(INSTALLED)
	cd $(FOLDER) && "$(CURDIR)/$(BIN)/python" "$(CURDIR)/benchmarks/plan.py" $(SET)

# Recall of the frozen ViT-B/16 on COCO's 5k test images beside the published numbers; needs weights and data.
check-zero-shot: $(INSTALLED)
	$(BIN)/python benchmarks/zero_shot.py

# Recall of frozen Grounding DINO on RefCOCO beside the published numbers; needs weights and data.
check-grounding: $(INSTALLED)
	$(BIN)/python benchmarks/grounding_zero_shot.py

# The rows of docs/performance.md that need a GPU, in docs/results/*_cuda_bf16.csv, then its tables.
gpu-benchmarks: $(INSTALLED)
	$(BIN)/python benchmarks/step.py --device cuda --precision bf16
	$(BIN)/python benchmarks/step.py --device cuda --precision bf16 --batch 256
	$(BIN)/python benchmarks/throughput.py --device cuda --precision bf16 --batch 256
	$(BIN)/python benchmarks/tables.py

# Make the embedded backbone anew (its card, data/backbone/README.md, says how long that takes); goes on from its last
# checkpoint.
pretrain: $(INSTALLED)
	$(BIN)/python stages/pretrain.py

# Make the embedded detector anew, of the embedded backbone (its card, grounding/detector/README.md, says how long that
# takes); goes on from its last checkpoint.
detector: $(INSTALLED)
	$(BIN)/python stages/detector.py

# Everything that a run made, but neither the environment, nor DVC's own folder (cache, queue, local settings), nor data
# that was fetched or put there by hand.
clean:
	git clean -fdXq -e '!/.venv/' -e '!/.dvc/' -e '!/.dvc/**' $(foreach kept,$(addprefix data/,coco flickr30k own refcoco) grounding/data/own,-e '!/$(kept)/' -e '!/$(kept)/**')

# The environment: PYTHON makes it; torch and torchvision come from TORCH_INDEX, the address of a package index or a folder
# of wheels, or as usual. It keeps both until another is named, and is then made anew.
MADE_WITH := $(shell cat .venv/made-with 2>/dev/null)
PYTHON ?= $(or $(firstword $(MADE_WITH)),python3)
TORCH_INDEX ?= $(wordlist 2,99,$(MADE_WITH))
ifneq ($(strip $(PYTHON) $(TORCH_INDEX)),$(MADE_WITH))
.PHONY: $(INSTALLED)
endif

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt tools/install.py
	$(PYTHON) tools/install.py '$(PYTHON)' '$(TORCH_INDEX)'

# Workers for experiments that wait (`dvc exp run --queue`): JOBS at a time, which share the cores.
JOBS ?= 1
queue: export PATH := $(CURDIR)/$(BIN):$(PATH)
queue: $(INSTALLED)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$(python -c 'from lpi.runtime.cpus import usable_cpus; print(max(1, usable_cpus() // $(JOBS)))')} \
		dvc queue start --jobs $(JOBS)

# Pages of all classes and functions, made of their docstrings: api/index.html.
api: $(INSTALLED)
	$(BIN)/pdoc --docformat google --output-directory api lpi

# Seconds and memory of the stages that made the present outputs.
costs: $(INSTALLED)
	$(BIN)/python benchmarks/costs.py

.PHONY: queue api costs
