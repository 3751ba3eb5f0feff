# Two commands do everything on a bare Debian 12 machine (root, Go, Python 3.11): `make demo` and `make test`.
# What is slow to build is kept outside the repository, in $SLMFLEET_CACHE (~/.cache/slmfleet), keyed by its sources.

.PHONY: help demo demo-again test test-long bench-gateway bench-discovery bench-expressions bench-redaction \
	bench-scale bench-simulate bench-training bench-extraction lint unit clients kube node serving e2e crds locks images clean-cache

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## the whole loop on a real Kubernetes node of its own; ends with a table
	@bash tests/run.sh demo

demo-again: ## traffic changes, and the fleet is trained again without a hand
	@bash tests/run.sh demo-again

test: ## lint, unit, clients, API server, node, serving and end-to-end tests
	@bash tests/run.sh lint unit clients kube node images serving e2e

test-long: ## what takes longer: every training recipe, ten kills of the operator, Git with two clusters, failing well
	@bash tests/run.sh long

lint unit clients kube node serving e2e: ## one part of `make test`
	@bash tests/run.sh $@

bench-gateway: ## our gateway beside others: CPU a call, calls a second, latency (QUICK=1 for a first look)
	@bash tests/run.sh bench

bench-discovery: ## our clustering by meaning beside BERTopic's chain and UMAP + HDBSCAN (QUICK=1: does it run?)
	@bash tests/run.sh bench-discovery

bench-expressions: ## a tenant's regular expressions on RE2 beside Python's re
	@bash tests/run.sh $@

bench-redaction: ## redaction beside Presidio: what is found, what is found in vain, how fast (QUICK=1: nothing trained)
	@bash tests/run.sh $@

bench-scale: ## memory and time of curation as the log grows (RECORDS="50000 1000000", WORKERS=2 for Ray, TASK=discover)
	@bash tests/run.sh bench-scale

bench-simulate: ## our planner and choice of a server beside others, simulated on production arrivals
	@bash tests/run.sh bench-simulate

bench-training: ## our trainer beside trl's, and the recipes beside each other, on the CPU (QUICK=1: does it run?)
	@bash tests/run.sh bench-training

bench-extraction: ## what extracted adapters keep of DoRA and full fine-tuning, by rank (QUICK=1: does it run?)
	@bash tests/run.sh bench-extraction

crds: ## write crds/ and the chart's copy from the models
	@bash tests/run.sh crds

locks: ## pin the environments anew
	@bash locks/lock.sh

images: ## build the slim images and the self-contained trainer into the cache
	@bash tests/run.sh images

clean-cache: ## remove everything that was built or downloaded
	rm -rf "$${SLMFLEET_CACHE:-$$HOME/.cache/slmfleet}"
