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

LDFLAGS := -s -w -X main.version=$(VERSION)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

# Extra flags for go test, such as TESTFLAGS='-run TestApply -count=1'.
TESTFLAGS ?=
# Which benchmarks `make bench` runs.
BENCH ?= .
BENCHFLAGS ?= -benchmem

##@ What you get

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build godwitd, godwitctl and kubectl-godwit into bin/
	@mkdir -p bin
	$(GO_BUILD) -o bin/godwitd ./cmd/godwitd
	$(GO_BUILD) -o bin/godwitctl ./cmd/godwitctl
	ln -sf godwitctl bin/kubectl-godwit

.PHONY: image
image: build sandbox ## Make the container image as a tar, bin/godwit-image.tar
	bin/sandbox image --name $(IMAGE) --out $(IMAGE_TAR) \
		--copy bin/godwitd=/usr/local/bin/godwitd --entrypoint /usr/local/bin/godwitd

.PHONY: sandbox
sandbox: ## Build bin/sandbox, which runs real clusters on this machine
	@mkdir -p bin
	cd test/sandbox && CGO_ENABLED=0 go build -trimpath -o ../../bin/sandbox .

.PHONY: demo
demo: image ## Two real clusters, and a database that moves between them
	go build -trimpath -o bin/demo ./test/demo
	bin/demo

.PHONY: demo-clean
demo-clean: sandbox ## Remove everything that the demo made
	bin/sandbox down --purge src dst

##@ What keeps it right

.PHONY: test
test: ## Vet, then all tests that need no clusters, with the race detector
	.ci/test $(TESTFLAGS)

.PHONY: e2e
e2e: image ## End-to-end tests on two real clusters (needs root)
	GODWIT_E2E=1 go test -count=1 -v -timeout 60m $(TESTFLAGS) $$(go list ./test/... | grep -E '/test/(e2e|faults)(/|$$)')

.PHONY: bench
bench: ## Run the benchmarks (BENCH=regexp chooses)
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
