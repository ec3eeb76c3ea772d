# Every target that a developer, a user trying Godwit, or CI needs.
# Tools are pinned as Go modules in .tools and run by `go tool`: nothing is
# downloaded but modules, and GOFLAGS, GOCACHE and GOMODCACHE are honoured.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
IMAGE ?= godwit-io/godwit:dev
IMAGE_TAR ?= bin/godwit-image.tar
HOOK_RUNNER_IMAGE ?= godwit-io/hook-runner:dev
HOOK_RUNNER_TAR ?= bin/godwit-hook-runner-image.tar

# All that is built without the race detector is built in one way, so that what one target
# has compiled serves the others.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath,$(shell go env GOFLAGS 2>/dev/null)) -trimpath)

LDFLAGS := -s -w -X main.version=$(VERSION)
GO_BUILD := go build -ldflags '$(LDFLAGS)'

# Extra flags for go test, such as TESTFLAGS='-run TestApply -count=1'.
TESTFLAGS ?=
# Flags of the demo, such as DEMOFLAGS=-control-plane.
DEMOFLAGS ?=
# The image that `make bench` stores, and how often; BENCH_FLAGS='-docs docs'
# also writes docs/performance.md. bin/bench -help lists the rest.
BENCH_SIZE ?= 8GiB
BENCH_ROUNDS ?= 3
# How large the volume of `make bench-rounds` is, and how much of it holds data: all,
# where nothing is said. The disk needs three times that.
SIZE ?= 20GiB
FILL ?=
BENCH_FLAGS ?=
# Where the race detector has nothing to watch.
RACE_FLAGS = $(strip $(shell cat .ci/race-flags))
# Which benchmarks `make bench-packages` runs.
BENCH ?= .
BENCHFLAGS ?= -benchmem

##@ What you get

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build godwitd, godwitctl and kubectl-godwit into bin/
	@command -v go >/dev/null || { echo "Go is not in PATH: install it (https://go.dev/dl), or add its folder, such as /usr/local/go/bin" >&2; exit 1; }
	@mkdir -p bin
	$(GO_BUILD) -o bin/godwitd ./cmd/godwitd
	$(GO_BUILD) -o bin/godwitctl ./cmd/godwitctl
	ln -sf godwitctl bin/kubectl-godwit

.PHONY: image
image: build sandbox ## Make the container image as a tar, bin/godwit-image.tar
	bin/sandbox image --name $(IMAGE) --out $(IMAGE_TAR) \
		--copy bin/godwitd=/usr/local/bin/godwitd --entrypoint /usr/local/bin/godwitd

# With HOME, USER and the cache of compiled modules in /tmp, a pod of any user can run it.
.PHONY: hook-runner-image
hook-runner-image: sandbox ## Make the image that runs the playbooks of hooks, bin/godwit-hook-runner-image.tar
	bin/sandbox image --name $(HOOK_RUNNER_IMAGE) --out $(HOOK_RUNNER_TAR) \
		--from-deb ansible,python3-kubernetes,libc-bin,bash,coreutils --busybox \
		--add-user hook=65532:/tmp --user 65532 \
		--env HOME=/tmp --env USER=hook --env PYTHONPYCACHEPREFIX=/tmp/.pycache

.PHONY: sandbox
sandbox: ## Build bin/sandbox, which runs real clusters on this machine
	@[ "$$(uname)" = Linux ] || { echo "the sandbox needs Linux: run make in a Linux container or virtual machine (README.md, Try it)" >&2; exit 1; }
	@mkdir -p bin
	cd test/sandbox && go build -o ../../bin/sandbox .

.PHONY: demo
demo: image ## Two real clusters, and a database that moves between them
	go build -o bin/demo ./test/demo
	bin/demo $(DEMOFLAGS)

.PHONY: demo-clean
demo-clean: sandbox ## Remove everything that the demo made
	bin/sandbox down --purge src dst

##@ What keeps it right

.PHONY: test
test: ## Vet, then all tests that need no clusters, with the race detector
	.ci/test $(TESTFLAGS)

.PHONY: rights
rights: sandbox ## Take each right of Godwit's service accounts away in turn (minutes)
	kube=$$(bin/sandbox which kube-apiserver) && GODWIT_SANDBOX=$(CURDIR)/bin/sandbox GODWIT_KUBE_BIN=$${kube%/*} \
		GODWIT_VERSITYGW=$$(bin/sandbox which versitygw) GODWIT_RACE_FLAGS='$(RACE_FLAGS)' \
		go test -count=1 -v -timeout 50m -tags rights -run '^TestRights$$' $(TESTFLAGS) ./test/integration

.PHONY: sdk-test
sdk-test: sandbox ## Run the OpenStorage SDK's own suite (SDK_TEST=checkout of libopenstorage/sdk-test)
	kube=$$(bin/sandbox which kube-apiserver) && GODWIT_SANDBOX=$(CURDIR)/bin/sandbox GODWIT_KUBE_BIN=$${kube%/*} \
		GODWIT_VERSITYGW=$$(bin/sandbox which versitygw) GODWIT_SDK_TEST=$(abspath $(SDK_TEST)) GODWIT_RACE_FLAGS='$(RACE_FLAGS)' \
		go test -count=1 -v -timeout 20m -tags sdktest -run '^TestConformance$$' $(TESTFLAGS) ./test/integration

.PHONY: soak
soak: ## Ten times the random histories of the engine that make test runs (a quarter of an hour)
	GODWIT_HISTORIES=10 CGO_ENABLED=1 go test -race $(RACE_FLAGS) -vet=off -ldflags=-w \
		-count=1 -timeout 12h -run '^TestHistories$$' $(TESTFLAGS) \
		./snapshot/snapshottest ./snapshot/kopiastore

.PHONY: e2e
e2e: image hook-runner-image ## End-to-end tests on two real clusters (needs root)
	GODWIT_E2E=1 go test -count=1 -v -timeout 60m $(TESTFLAGS) ./test/e2e/...
	cd test/sandbox && GODWIT_E2E=1 go test -count=1 -v -timeout 20m $(TESTFLAGS) .

.PHONY: bench
bench: sandbox ## Measure the engine beside other programs (BENCH_SIZE=1GiB for a quick look)
	mkdir -p bin && go build -o bin/bench ./test/bench
	GODWIT_VERSITYGW=$$(bin/sandbox which versitygw) bin/bench -size $(BENCH_SIZE) -rounds $(BENCH_ROUNDS) $(BENCH_FLAGS)

.PHONY: bench-objects
bench-objects: sandbox ## Measure 10,000 objects beside kubectl apply (BENCH_FLAGS='-docs docs')
	mkdir -p bin && go build -o bin/bench-objects ./test/bench/objects
	GODWIT_KUBE_BIN=$$(dirname $$(bin/sandbox which kube-apiserver)) bin/bench-objects $(BENCH_FLAGS)

.PHONY: bench-rounds
bench-rounds: image ## Measure lag and unchanged rounds on two real clusters (needs root; SIZE=1GiB for a quick look)
	GODWIT_E2E=1 GODWIT_BENCH_ROUNDS=$(SIZE) GODWIT_BENCH_FILL=$(FILL) go test -count=1 -v -timeout 6h -run '^TestBenchRounds$$' $(TESTFLAGS) ./test/e2e

.PHONY: bench-packages
bench-packages: ## Run the Go benchmarks of the packages (BENCH=regexp chooses)
	go test -run '^$$' -bench '$(BENCH)' $(BENCHFLAGS) ./...

.PHONY: lint
lint: ## Check the code against the house rules
	.ci/lint

.PHONY: generate
generate: ## Make protobuf code, deepcopy methods, CRDs and RBAC anew
	.ci/generate

.PHONY: generate-check
generate-check: ## Fail if a generated file differs from its source
	.ci/generate --check

.PHONY: clean
clean: ## Remove what the build made (not the caches, not the clusters)
	@if [ -d _output ]; then chmod -R u+w _output; fi # a module cache may be in it, read-only
	rm -rf bin _output
