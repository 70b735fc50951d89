#!/usr/bin/env bash
# Generates the Go stubs of the protos into gen/. It needs protoc-gen-go and protoc-gen-go-grpc, and protoc or grpcio-tools for Python.
set -euo pipefail
cd "$(dirname "$0")"
protos=../../proto
module=example.com/identity/examples/go

if command -v protoc >/dev/null; then protoc=(protoc); else protoc=(python3 -m grpc_tools.protoc); fi
mapfile -t files < <(cd "$protos" && find access auth profiles -name '*.proto' | sort)
mapfile -t third_party < <(cd "$protos/third_party" && find . -name '*.proto' | sed 's|^\./||' | sort)

# Every file gets a package of this module, so that only grpc and protobuf are dependencies.
options=("module=$module")
for file in "${files[@]}" "${third_party[@]}"; do
    package=$(dirname "$file")
    options+=("M$file=$module/gen/$package")
done
joined=$(IFS=,; echo "${options[*]}")
rm -rf gen
"${protoc[@]}" --proto_path="$protos" --proto_path="$protos/third_party" --go_out=. --go_opt="$joined" --go-grpc_out=. \
    --go-grpc_opt="$joined" "${files[@]}" "${third_party[@]}"
