# `make tables` and `make test` each set the environment up by themselves; second runs start at once.
# Needed: Python 3.11-3.13 with venv, git, make. PYTHON=... picks another interpreter, SCALE=... another scale.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
SCALE ?= quick
WORKERS ?= auto
BIN := .venv/bin
# `make env CUDA=cu126` takes torch built for that CUDA, for drivers older than that of the lock; `make env CUDA=lock` goes back to it.
# What was taken stays so when a new lock makes the environment anew.
CUDA := $(filter-out lock,$(patsubst .venv/.torch-%,%,$(wildcard .venv/.torch-*)))

.PHONY: env tables so-far test test-quick test-slurm bench ui pull keep lock lint clean

# Makes everything here; what `make pull` took over lies in results/ and stays.
tables: env
	CONDENSE_KEPT=off $(BIN)/snakemake --cores all --config scale=$(SCALE)
	@echo "Look at results/report.html"

# Of a scale that is still running, or was never finished: all that can be shown of what is made.
so-far: env
	$(BIN)/condense report --so-far --scale $(SCALE)
	@echo "Look at results/so-far/report.html"

# Side by side in WORKERS processes, each with one thread; WORKERS=0 runs them one after another.
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

test-quick: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not workflow and not slow"

# The whole quick scale through a SLURM of one node on this machine (packages slurm-wlm and munge), in a folder of its own.
test-slurm: env
	PATH="$$PWD/$(BIN):$$PATH" tests/workflow/slurm/quick

# The engine against the plain loop of the literature, on this machine; the report shows it. BENCH="--data FOLDER --accuracy" for more.
bench: env
	$(BIN)/python tests/benchmarks/bench.py $(BENCH)

env: .venv/.ready $(if $(CUDA),.venv/.torch-$(CUDA))

# The stamp lies inside .venv and names the lock: a new lock makes the environment anew.
.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed (set PYTHON=/path/to/python)"; exit 2; }
	@case "$$PWD" in *:*) echo "$$PWD: has a colon, at which PATH is divided; move the checkout"; exit 2;; esac
	rm -rf .venv
	"$(PYTHON)" -m venv .venv
	"$(PYTHON)" workflow/scripts/pick.py requirements.lock uv > .venv/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r requirements.lock
	VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src
	touch $@

# Builds for other CUDAs are on PyTorch's own index, which uv knows by the name of the build; the lock holds those of PyPI alone. The
# stamp lies inside .venv too, one at a time: a new lock, or another CUDA, installs them anew.
.venv/.torch-%: .venv/.ready
	@case "$*" in lock|cpu|cu[0-9][0-9]*) ;; *) echo "CUDA=$*: cu126, cu128, cu130 or the like is needed, cpu, or lock"; exit 2;; esac
	rm -f .venv/.torch-*
	if [ "$*" = lock ]; then \
		VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install --quiet --require-hashes --reinstall-package torch --reinstall-package torchvision \
			-r requirements.lock; \
	else \
		VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install --quiet --torch-backend="$*" --reinstall-package torch \
			--reinstall-package torchvision "torch>=2.11" "torchvision>=0.26"; \
	fi
	touch $@

ui: env
	@if [ -d results ]; then $(BIN)/condense track --store sqlite:///mlflow.db --scale $(SCALE) || true; fi
	MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PATH="$$PWD/$(BIN):$$PATH" \
		$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000 --workers 1

# Takes over what was made earlier and the scale still asks for. In a checkout, DVC first fetches what is not here; an unpacked
# archive has what git has.
pull: env
	@if git rev-parse --git-dir > /dev/null 2>&1; then $(BIN)/dvc pull; else echo "no git checkout: taking what came with the archive"; fi
	$(BIN)/condense take --scale $(SCALE)

# For maintainers: adds finished results to kept/ and the store, as a change for git to commit. BYTES="cifar10 ..." keeps what is
# large of these datasets, too, for the remote of a team (docs/remotes.md); UNFINISHED=1 keeps sets that have only begun.
keep: env
	@[ -z "$(BYTES)" ] || [ "$$($(BIN)/dvc config core.remote)" != store ] || \
		{ echo "BYTES: what is too large for git needs a remote; set one up as docs/remotes.md says"; exit 2; }
	$(BIN)/condense keep --scale $(SCALE) --bytes $(BYTES) $(if $(UNFINISHED),--unfinished) --list .dvc/tmp/kept
	git add --all kept
	git add --force --pathspec-from-file=.dvc/tmp/kept
	git add --update dvcstore
	$(BIN)/dvc push --quiet

# For maintainers: the lock serves Python 3.11 to 3.13 and names no package index.
lock: env
	env -u PIP_FIND_LINKS -u UV_INDEX_URL -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --generate-hashes --all-extras \
		--python-version 3.11 --no-header --no-annotate --upgrade pyproject.toml -o requirements.lock

lint: env
	$(BIN)/ruff check src tests workflow

clean:
	rm -rf .venv .snakemake results
