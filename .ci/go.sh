#!/usr/bin/env bash
# Generates the Go stubs, tests the verifier, and builds the programs of examples/go into target/go/.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in go protoc-gen-go protoc-gen-go-grpc; do
    command -v "$tool" >/dev/null || { echo "Go: NOT BUILT: $tool is not installed"; exit 0; }
done
examples/go/generate.sh
out=$PWD/target/go
mkdir -p "$out"
cd examples/go
[ -z "$(gofmt -l jwks notes verify)" ] || { gofmt -d jwks notes verify; exit 1; }

if [ -d /usr/share/gocode/src/google.golang.org/grpc ]; then
    # Debian's packages contain the sources of the dependencies, so no module has to be downloaded.
    echo 'Go: the dependencies are from Debian packages'
    export GO111MODULE=off GOPATH=$out/path:/usr/share/gocode
    source=$out/path/src/example.com/identity/examples
    mkdir -p "$source"
    ln -sfn "$PWD" "$source/go"
    cd "$source/go"
elif GOFLAGS=-mod=mod go mod download; then
    echo 'Go: the dependencies are modules'
    export GOFLAGS=-mod=mod
else
    echo 'Go: NOT BUILT: the dependencies are neither installed nor can be downloaded'
    exit 0
fi
go vet ./jwks ./notes ./verify
go test ./jwks
go build -o "$out" ./notes ./verify
echo "Go: built $(cd "$out" && ls notes verify | xargs)"
