#!/usr/bin/env bash
# Builds the greeter as a project of its own in a temporary folder, with path dependencies on `access` and `access-build`, and calls it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT

cp -r "$root/examples/greeter/src" "$root/examples/greeter/proto" "$root/examples/greeter/build.rs" "$folder"
cp "$root/Cargo.lock" "$folder"
version() { sed -n "s/^$1 = \(.*\)/\1/p" "$root/Cargo.toml" | head -1; }
cat >"$folder/Cargo.toml" <<TOML
[package]
name = "greeter"
version = "0.1.0"
edition = "2024"

[workspace]

[dependencies]
access = { path = "$root/shared/access" }
prost = $(version prost)
tokio = $(version tokio)
tonic = $(version tonic)
tonic-prost = $(version tonic-prost)

[build-dependencies]
access-build = { path = "$root/shared/access-build" }
TOML

cd "$folder"
export CARGO_TARGET_DIR="$root/target/outside"
cargo build --quiet
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$CARGO_TARGET_DIR/debug/greeter" "127.0.0.1:$port" http://127.0.0.1:1 &
server=$!

# The call has no token, so the guard must reject it.
for _ in $(seq 100); do
    answer=$(grpcurl -plaintext -import-path "$root/proto" -import-path "$root/proto/third_party" -import-path "$folder/proto" \
        -proto greeter/v1/greeter.proto -d '{"name": "Bob"}' "127.0.0.1:$port" greeter.v1.GreeterService/Greet 2>&1 || true)
    case $answer in
    *Unauthenticated*) echo 'outside the workspace: built, called, and rejected by the guard'; exit 0 ;;
    *) sleep 0.1 ;;
    esac
done
echo "unexpected answer: $answer" >&2
exit 1
