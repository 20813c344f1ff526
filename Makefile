# Sets up its own virtual environment; needs python3.11, pip and make.
PYTHON ?= python3.11
VENV ?= .venv
PIP = $(VENV)/bin/pip install --quiet --constraint constraints.txt

# make bench BACKBONE=flux METHOD=goca DATASET=voc PROTOCOL=goca LIMIT=20 ARGS="--data-root /data --device cuda"
# Pocket models are bound by overhead, so images share forwards, and two processes the images; not where backbones are named,
# or where a launcher has its own processes.
NAMED = $(or $(BACKBONE),$(findstring --backbone,$(ARGS)))
LAUNCHED = $(or $(RANK),$(SLURM_STEP_NUM_TASKS),$(OMPI_COMM_WORLD_RANK))
BATCH ?= $(if $(NAMED),,16)
# What the second process says.
SECOND = build/bench-second.log
OPTIONS = $(if $(BATCH),--batch $(BATCH)) $(if $(BACKBONE),--backbone $(BACKBONE)) $(if $(METHOD),--method $(METHOD)) \
	$(if $(DATASET),--dataset $(DATASET)) $(if $(PROTOCOL),--protocol $(PROTOCOL)) \
	$(if $(LIMIT),--limit $(LIMIT)) $(ARGS)

.PHONY: bench results taught ladder test test-browser test-slurm soak soak-slurm scale lint docs docs-cli setup clean

bench: $(VENV)/ready
ifneq ($(or $(NAMED),$(LAUNCHED)),)
	@$(VENV)/bin/segscale bench $(OPTIONS)
else
	@export WORLD_SIZE=2 OMP_NUM_THREADS=1; mkdir -p build; \
	RANK=1 $(VENV)/bin/segscale bench $(OPTIONS) > $(SECOND) 2>&1 & other=$$!; \
	RANK=0 $(VENV)/bin/segscale bench $(OPTIONS) & first=$$!; \
	trap 'kill $$first $$other' INT TERM; \
	wait $$first; status=$$?; [ $$status = 0 ] || kill $$other 2> /dev/null; \
	wait $$other || [ $$status != 0 ] || echo "the second process failed, and the first did its share: see $(SECOND)" >&2; \
	exit $$status
endif

# The tables that are shipped. Calibration comes first, because tables read it.
results: POCKET = --results results/pocket
results: $(VENV)/ready
	$(VENV)/bin/segscale calibrate --limit 100 $(POCKET) --overwrite
	$(VENV)/bin/segscale calibrate --limit 100 --protocol standard-full --method vanilla,goca-described $(POCKET) --overwrite
	$(VENV)/bin/segscale bench $(POCKET)
	$(VENV)/bin/segscale bench --protocol standard-full --method vanilla,goca-described $(POCKET)
	$(VENV)/bin/segscale run --backbone pocket-genmask --method genmask --protocol standard-full $(POCKET)
	$(VENV)/bin/segscale run --backbone pocket-genmask --method genmask --protocol goca $(POCKET)
	$(VENV)/bin/segscale run --backbone pocket-genmask --method genmask --dataset pocket-referring --protocol referring $(POCKET)
	$(VENV)/bin/segscale bench --dataset pocket-referring --protocol referring \
	    --method vanilla,goca,goca-described,seg4diff-described $(POCKET)
	$(VENV)/bin/segscale layers pocket-sd3 --with vanilla,goca $(POCKET) --overwrite
	$(VENV)/bin/segscale layers pocket-flux --with vanilla,goca $(POCKET) --overwrite
	$(VENV)/bin/segscale quirks $(POCKET) --overwrite
	$(VENV)/bin/segscale timesteps pocket-sd3 --method vanilla,goca-described,seg4diff-described --limit 100 $(POCKET)
	$(VENV)/bin/segscale timesteps pocket-sd15 --method vanilla,goca-described,seg4diff-described --limit 100 $(POCKET)
	$(VENV)/bin/segscale ablate pocket-sd15 --limit 100 $(POCKET)
	$(VENV)/bin/segscale ablate pocket-sd3 --limit 100 $(POCKET)
	$(VENV)/bin/segscale ablate pocket-sdxl --limit 100 $(POCKET)
	$(VENV)/bin/segscale ablate pocket-sd3 --method seg4diff-described --limit 100 $(POCKET)
	$(VENV)/bin/segscale perturb pocket-sd3 --limit 100 --generate 50 $(POCKET)
	$(VENV)/bin/segscale perturb pocket-sd3 --limit 100 --width inf $(POCKET)
	$(VENV)/bin/segscale perturb pocket-flux --limit 100 $(POCKET)
	$(VENV)/bin/segscale perturb pocket-pixart-sigma --limit 100 $(POCKET)
	$(VENV)/bin/segscale perturb pocket-sd15 --limit 100 --generate 50 $(POCKET)
	$(VENV)/bin/segscale features pocket-sd3 --limit 100 $(POCKET)
	$(VENV)/bin/segscale latents pocket $(POCKET)
	$(VENV)/bin/segscale guidance pocket-sd15 --limit 100 --batch 20 $(POCKET)
	$(VENV)/bin/segscale guidance pocket-sd15 --methods s-cfg,goca-s-cfg --limit 100 --batch 20 $(POCKET)
	$(VENV)/bin/segscale guidance pocket-pixart-sigma --limit 100 --batch 20 $(POCKET)
	for twin in sd15 sdxl pixart-sigma sd3 flux; do \
	    $(VENV)/bin/segscale power pocket-$$twin --limit 1000 --batch 50 $(POCKET) || exit; \
	done
	$(VENV)/bin/segscale scaling --method vanilla,goca,goca-described $(POCKET)

# What training buys: aligned blocks, and variants of GenMask. Both go on where they stopped; all of it takes an idle core some 3
# hours. It has results of its own, because runs with a LoRA are no rows of the shipped tables.
taught: ALIGN = --rank 4 --steps 300 --batch 32 --learning-rate 1e-3 --warm-up 50
taught: TAUGHT = build/taught
taught: VARIANTS = a=0.05,a=0.1,a=0.5,logit-normal,no-image-tokens,no-generation,no-masks,cross-entropy
taught: $(VENV)/ready-test
	for lora in pocket-sd3-described pocket-sd3-published pocket-flux-described pocket-flux-published; do \
	    backbone=$${lora%-*}; \
	    $(VENV)/bin/segscale align $$backbone $(TAUGHT)/lora/$$lora --reading $${lora##*-} $(ALIGN) && \
	    $(VENV)/bin/segscale lora-gain $$backbone --lora $(TAUGHT)/lora/$$lora --pictures 100 --batch 20 \
	        --results $(TAUGHT) --overwrite || exit; \
	done
	$(VENV)/bin/segscale genmask ablate --variants $(VARIANTS) --steps 500 --seeds 5 --limit 100 --scenes 4000 \
	    --results $(TAUGHT) --overwrite
	cp $(TAUGHT)/analysis/*-lora-gain-*.csv results/pocket/analysis/
	cp $(TAUGHT)/genmask/*.csv results/pocket/genmask/

# Trains the rungs that were not measured in LADDER, or those in RUNGS, measures them and writes the tables. All take an idle core some 12 hours.
LADDER ?= results/pocket/ladder
EARLIER = $(addprefix --earlier ,$(dir $(wildcard $(LADDER)/power-replicates.parquet)))
ladder: export SEGSCALE_CONFIGS = $(LADDER)/configs
ladder: $(VENV)/ready
	mkdir -p $(LADDER)/configs
	$(VENV)/bin/python -m segscale.backbones.pocket.climb --folder $(LADDER) $(RUNGS)
	$(VENV)/bin/python -m segscale.bench.generation.measure_ladder --results $(LADDER) $(ARGS)
	$(VENV)/bin/segscale scaling --method vanilla,goca,goca-described --results $(LADDER) $(EARLIER)

test: $(VENV)/ready-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 $(ARGS)

# The report page in headless Chromium; apt-get install chromium chromium-driver brings it on Debian.
test-browser: $(VENV)/ready-test
	$(PIP) --editable '.[test,browser]'
	$(VENV)/bin/python -m pytest tests/browser.py $(ARGS)

# Sweeps on a SLURM of one node; apt-get install slurm-wlm munge brings it on Debian, and root may start it.
test-slurm: $(VENV)/ready-test
	$(PIP) --editable '.[test,slurm]'
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest tests/slurm.py $(ARGS)

# Times commands over a store of 10,000 runs, on an idle machine with 3 GB of disk.
scale: $(VENV)/ready-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/scale.py $(ARGS)

# A sweep on a SLURM of one node that preempts, cancels and runs out of disk; SEED=1 is another one.
soak-slurm: $(VENV)/ready-test
	$(PIP) --editable '.[test,slurm]'
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest tests/slurm_soak.py -s $(ARGS)

# A hundred kills at random moments.
soak: $(VENV)/ready-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/soak.py $(ARGS)

lint: $(VENV)/ready-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/python tests/layers.py

# The documentation as a site, build/site/index.html; pages need no network.
docs: $(VENV)/ready-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict $(ARGS)

docs-cli: $(VENV)/ready
	$(VENV)/bin/python -m segscale.bench.commands.reference > docs/cli.md

setup: $(VENV)/ready

# torch comes first and pinned, so that no other package pulls another build of it.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/ready-docs: $(VENV)/ready
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/ready-lint: $(VENV)/ready-test
	$(PIP) --editable '.[test,lint,slurm]'
	@touch $@

clean:
	rm -rf $(VENV) build/site build/package
