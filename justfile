# The words of this project. CI runs `.ci/run`, which installs the tools and says these words.

# What `.ci/run` has installed is found without being asked for.
export PATH := justfile_directory() / "target/ci-venv/bin" + ":" + env("PATH")

# Lists the words.
default:
    @just --list --unsorted

# Serves both services on SQLite under ./data.
run *flags:
    cargo run -- {{ flags }}

# Fails where the code is not formatted.
fmt:
    cargo fmt --all --check

# Lints with every warning an error.
clippy:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Lints the protos, and compares them with the last release.
proto:
    #!/usr/bin/env bash
    set -euo pipefail
    buf lint
    buf format --diff --exit-code proto
    if release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); then
        echo "buf breaking: compared with $release"
        buf breaking --against ".git#tag=$release"
    else
        echo 'buf breaking: NOT RUN: there is no release (a tag v*) to compare with'
    fi

# Checks licences, bans and sources, and the advisories where their database can be fetched.
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo deny --locked check --hide-inclusion-graph bans licenses sources
    # The advisories are a git repository elsewhere: where it can't be reached they are not read, and that is said.
    if timeout 120 cargo deny --locked fetch db; then
        cargo deny --locked check --disable-fetch advisories
    else
        echo 'advisories: NOT RUN: their database could not be fetched'
    fi

# Tests everything, on SQLite and on PostgreSQL.
test:
    cargo test --workspace

# Drives the quickstart with grpcurl, buf curl, curl and Python.
clients:
    cargo build --locked --package quickstart
    python3 .ci/clients.py

# Holds the HTTP face to its description, to other people's libraries, and to the examples in three languages.
endpoints:
    cargo build --locked --package quickstart --package client
    npm ci --prefix .ci/jose --no-audit --no-fund
    npm ci --prefix examples/typescript --no-audit --no-fund
    npm run build --prefix examples/typescript
    python3 .ci/endpoints.py

# Looks at the page in Chromium, and leaves screenshots in target/page/.
page:
    cargo build --locked --package quickstart
    python3 .ci/page.py

# Builds a project outside the workspace that depends on `access` and `access-build` by path, and calls it.
outside:
    .ci/outside.sh

# Fails on a dependency that no crate uses.
unused:
    command -v cargo-machete >/dev/null || cargo install --locked --quiet cargo-machete
    cargo machete

# All of it, as CI runs it.
ci:
    .ci/run
