# make dev     build and run a control plane, nodes and a fake Bedrock on loopback
# make test    every test there is
# make check   what a change must pass: format, lints, docs, licences, protos, tests
# make soak    a policy that changes every second under load, for ten minutes
# make bench   the numbers of the README's table
# make kills   a control plane's store, killed a thousand times in the middle of what it does
# make fuzz    every fuzz target for a minute (needs a nightly toolchain)

SHELL := /bin/bash -o pipefail
# Kept beside the build: what the tests' foreign clients need.
FOREIGN := $(CURDIR)/target/foreign
PYTHON  := $(FOREIGN)/venv/bin/python
NODE    := $(FOREIGN)/node
CARGO_DENY_VERSION := 0.20.2

export SWITCHTOWER_PYTHON := $(PYTHON)
export SWITCHTOWER_NODE   := $(NODE)

.PHONY: dev build test soak check fmt clippy doc deny buf bench kills fuzz fuzz-builds foreign clean

# Always the whole workspace: another set of features would compile the AWS SDK again.
build:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.94.1 or newer"; exit 1; }
	cargo build --workspace --bins

dev: build
	@./target/debug/switchtower dev $(ARGS)

test: foreign
	cargo build --workspace --bins
	cargo test --workspace --doc
	./testing/summary cargo test --workspace --lib --bins --tests --no-fail-fast

soak: build
	SWITCHTOWER_SOAK_SECONDS=$${SWITCHTOWER_SOAK_SECONDS:-600} cargo test --workspace --test it -- --nocapture soak::

check: fmt clippy doc deny buf fuzz-builds test

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny:
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --version $(CARGO_DENY_VERSION)
	cargo deny check bans licenses sources

buf: $(NODE)/.done
	cd proto && $(NODE)/node_modules/.bin/buf lint

bench:
	cargo build --workspace --profile bench-run --bin switchtower-node --bin switchtower-control-plane --bin fake-bedrock \
		--bin switchtower-bench
	ulimit -n 20000 2>/dev/null || ulimit -n $$(ulimit -Hn); ./target/bench-run/switchtower-bench $(ARGS)

kills:
	SWITCHTOWER_KILLS=$(or $(KILLS),1000) cargo test --workspace --lib --tests -- kills:: --nocapture

fuzz:
	./fuzz/run $(ARGS)

# The targets are no members of the workspace: nothing else notices when what they call has changed.
fuzz-builds:
	cargo check --manifest-path fuzz/Cargo.toml --target-dir target/fuzz

foreign: $(FOREIGN)/venv/.done $(NODE)/.done

$(FOREIGN)/venv/.done: testing/system/foreign/requirements.txt
	@./testing/system/foreign/need python3 python3 python3-venv
	rm -rf $(FOREIGN)/venv && python3 -m venv $(FOREIGN)/venv
	$(PYTHON) -m pip install --quiet --requirement $<
	@touch $@

$(NODE)/.done: testing/system/foreign/package.json
	@./testing/system/foreign/need npm nodejs npm
	mkdir -p $(NODE) && cp $< $(NODE)/package.json
	cd $(NODE) && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

clean:
	cargo clean
