# The commands of this repository. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Version control stamps would make two checkouts of one commit differ.
export GOFLAGS := -buildvcs=false
# The programs are static, and tests that need no race detector need no C compiler either.
export CGO_ENABLED ?= 0

STACK ?= local
BIN := bin

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Go's own build cache decides what is stale.
.PHONY: $(BIN)/testbed $(BIN)/toolchain
$(BIN)/testbed:
	@go build -o $@ ./testbed/cmd/testbed
$(BIN)/toolchain:
	@go build -o $@ ./toolchain/cmd/toolchain

.PHONY: up
up: $(BIN)/testbed ## Start the three-node cluster on this host and the whole local stack on it
	@$(BIN)/testbed up

.PHONY: down
down: $(BIN)/testbed ## End the cluster and remove everything that it stored
	@$(BIN)/testbed down

.PHONY: status
status: $(BIN)/testbed ## Show nodes, servers, database, agents, identities and calls
	@$(BIN)/testbed status

.PHONY: toolchain
toolchain: $(BIN)/toolchain ## Build every program and image into the cache
	@$(BIN)/toolchain build

.PHONY: images-push
images-push: $(BIN)/toolchain ## Push the images to REGISTRY, for a cluster of your own; prints the content of an images file
	@$(BIN)/toolchain push "$(REGISTRY)"

.PHONY: graph
graph: ## Print the resource graph of STACK as JSON
	@go run ./cmd/graph $(STACK)

.PHONY: preview
preview: ## Preview STACK with the real engine, without credentials, cluster or network; POLICY=path adds a policy pack
	@go run ./cmd/preview $(addprefix -policy-pack ,$(POLICY)) $(STACK)

.PHONY: cost
cost: ## Estimate what STACK costs a month, from a dated table of list prices
	@go run ./cmd/cost $(STACK)

.PHONY: deployer-policy
deployer-policy: ## Print the IAM policies that whoever deploys STACK needs
	@go run ./cmd/deployer-policy $(STACK)

.PHONY: destroy
destroy: ## Take STACK down in order; production wants CONFIRM=<stack>; PREVIEW=1 only says what would go
	@go run ./cmd/destroy -confirm "$(CONFIRM)" $(if $(PREVIEW),-preview) $(STACK)

.PHONY: lint
lint: $(BIN)/toolchain
	@$(BIN)/toolchain build check
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@$$($(BIN)/toolchain path golangci-lint) run ./...
	@go mod tidy -diff

# What runs concurrently is tested under the race detector, which needs a C compiler. The rest is left out: instrumenting the
# Pulumi SDK takes ten minutes and finds nothing of ours.
RACE := ./cmd/internal/... ./cmd/csi-registrar ./cmd/rootca ./testbed ./toolchain/internal/... ./test/probe/... ./test/connectivity/... ./stacks/status ./cmd/gateway ./cmd/flowlog

.PHONY: unit
unit: $(BIN)/toolchain
	@$(BIN)/toolchain build spire-server spire-agent ghostunnel nats-server redis suricata postgres-server pulumi
	@{ command -v gcc && command -v iptables; } >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc libc6-dev iptables; }
	@CGO_ENABLED=1 go test -race $(RACE)
	@EPHEMOS_REQUIRE_PROGRAMS=1 go test $$(go list ./... | grep -v /test/deploy)

.PHONY: check
check: ## Lint, unit tests and resource graphs; no cluster
	@.ci/timed lint $(MAKE) --no-print-directory lint
	@.ci/timed unit $(MAKE) --no-print-directory unit

.PHONY: bench
bench: ## Benchmarks: rendering of 100 zones with 1,000 to 8,000 flows; the firewall beside the gateway without it
	@go test -run '^$$' -bench . ./components/segmentation ./cmd/internal/waf

.PHONY: bench-preview
bench-preview: ## Time and memory of a preview of STACK with 1, 5 and 20 trust domains
	@STACK=$(STACK) go test -run '^$$' -bench Preview -benchtime 1x ./test/bench

.PHONY: deploy-test
deploy-test: ## Deploy tests on the testbed
	@go test -count=1 -timeout 60m -v ./test/deploy/...

.PHONY: test
test: ## Everything that CI runs: check, then deploy tests on the testbed
	@rm -f $(BIN)/timings; trap 'echo; echo "step        seconds"; cat $(BIN)/timings' EXIT; \
	.ci/timed toolchain $(MAKE) --no-print-directory toolchain && \
	$(MAKE) --no-print-directory check && \
	.ci/timed deploy $(MAKE) --no-print-directory deploy-test
