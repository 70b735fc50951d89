"""Builds the client packages for Python and TypeScript from the protos, installs them in empty folders, and calls the quickstart with them.

The packages are written to a folder, `target/packages` by default: a wheel for pip and an archive for npm, both named `identity-clients`. They contain
the messages and the clients of `auth.v1`, `profiles.v1` and `access.v1`.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.resources import files as files_of
from pathlib import Path

from clients import PASSWORD, PATIENCE, ROOT, Quickstart, Report

NAME = "identity-clients"
# The packages whose code is generated. Google's own are in a library of each language.
PROTOS = ["access", "auth", "profiles", "third_party/buf"]
TYPESCRIPT = ROOT / "examples/typescript"
LICENSES = ["LICENSE-MIT", "LICENSE-APACHE"]

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "gRPC clients of auth-service and profile-service"
license = "MIT OR Apache-2.0"
license-files = ["LICENSE-*"]
requires-python = ">=3.10"
dependencies = ["grpcio>={grpcio}", "protobuf>={protobuf}", "googleapis-common-protos>=1.66"]
"""

USE_PYTHON = """import sys, grpc
from identity_clients.auth.v1 import token_pb2, token_pb2_grpc
from identity_clients.profiles.v1 import note_pb2, note_pb2_grpc

auth, profile, username, password = sys.argv[1:]
with grpc.insecure_channel(auth) as channel:
    token = token_pb2_grpc.TokenServiceStub(channel).Login(token_pb2.LoginRequest(username=username, password=password)).access_token
with grpc.insecure_channel(profile) as channel:
    request = note_pb2.CreateNoteRequest(user_id="me", note=note_pb2.Note(title="From Python"))
    print(note_pb2_grpc.NoteServiceStub(channel).CreateNote(request, metadata=[("authorization", f"Bearer {token}")]).title)
"""

USE_TYPESCRIPT = """import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { TokenService } from "identity-clients/auth/v1/token_pb.js";
import { NoteService } from "identity-clients/profiles/v1/note_pb.js";

const [auth, profile, username, password] = process.argv.slice(2);
const { accessToken } = await createClient(TokenService, createGrpcTransport({ baseUrl: `http://${auth}` })).login({ username, password });
const headers = { authorization: `Bearer ${accessToken}` };
const notes = createClient(NoteService, createGrpcTransport({ baseUrl: `http://${profile}` }));
console.log((await notes.createNote({ userId: "me", note: { title: "From TypeScript" } }, { headers })).title);
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def version():
    """Returns the version of the workspace."""
    return re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def build_python(folder, out):
    """Generates the stubs below the package `identity_clients`, and builds the wheel."""
    package = folder / "python/identity_clients"
    package.mkdir(parents=True)
    files = [file for name in PROTOS for file in (ROOT / "proto" / name).rglob("*.proto")]
    includes = [f"-I{path}" for path in (ROOT / "proto/third_party", ROOT / "proto", files_of("grpc_tools") / "_proto")]
    outputs = [f"--{kind}_out={package}" for kind in ("python", "pyi", "grpc_python")]
    run(sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *files)
    # protoc writes absolute imports, so that `auth` would be a package of its own at the top.
    for file in [*package.rglob("*.py"), *package.rglob("*.pyi")]:
        file.write_text(re.sub(r"^from (access|auth|profiles|buf)\.", r"from identity_clients.\1.", file.read_text(), flags=re.MULTILINE))
    for directory in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (directory / "__init__.py").touch()
    (package / "py.typed").touch()
    for file in LICENSES:
        shutil.copy(ROOT / file, folder / "python")
    installed = {name: run(sys.executable, "-m", "pip", "show", name) for name in ("grpcio", "protobuf")}
    needed = {name: re.search(r"^Version: (.*)$", text, re.MULTILINE)[1] for name, text in installed.items()}
    (folder / "python/pyproject.toml").write_text(PYPROJECT.format(name=NAME, version=version(), **needed))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, folder / "python")
    return next(out.glob("*.whl"))


def build_typescript(folder, out):
    """Generates the code with protoc-gen-es, compiles it, and packs it."""
    package = folder / "typescript"
    package.mkdir()
    (package / "node_modules").symlink_to(TYPESCRIPT / "node_modules")
    plugin = {"local": str(TYPESCRIPT / "node_modules/.bin/protoc-gen-es"), "out": str(package / "src"), "include_imports": True}
    template = {"version": "v2", "plugins": [plugin | {"opt": ["target=ts", "import_extension=js"]}]}
    run("buf", "generate", "--template", json.dumps(template), cwd=ROOT)
    options = {"target": "es2022", "module": "node16", "moduleResolution": "node16", "strict": True, "skipLibCheck": True, "declaration": True}
    options |= {"rootDir": "src", "outDir": "dist"}
    (package / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["src"]}))
    versions = json.loads((TYPESCRIPT / "package.json").read_text())["dependencies"]
    about = {"name": NAME, "version": version(), "description": "gRPC clients of auth-service and profile-service", "type": "module"}
    about |= {"license": "MIT OR Apache-2.0", "files": ["dist"], "dependencies": {"@bufbuild/protobuf": versions["@bufbuild/protobuf"]}}
    # `import "identity-clients/auth/v1/token_pb.js"`, with the types of token_pb.d.ts.
    about["exports"] = {"./*.js": {"types": "./dist/*.d.ts", "default": "./dist/*.js"}}
    (package / "package.json").write_text(json.dumps(about, indent=2))
    run(TYPESCRIPT / "node_modules/.bin/tsc", "--project", package, cwd=package)
    for file in LICENSES:
        shutil.copy(ROOT / file, package)
    run("npm", "pack", "--silent", "--pack-destination", out, cwd=package)
    return next(out.glob("*.tgz"))


def use(folder, quickstart, wheel, archive, report):
    """Installs each package in an empty folder, and calls the services with it."""
    arguments = [quickstart.auth, quickstart.profile, "alice", PASSWORD]
    credentials = json.dumps({"username": "alice", "password": PASSWORD})
    run("curl", "--fail", "--header", "content-type: application/json", "--data", credentials, f"http://{quickstart.auth}/v1/users:register")
    python = folder / "venv/bin/python"
    run(sys.executable, "-m", "venv", folder / "venv")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    report.check("the Python package writes a note", run(python, "-c", USE_PYTHON, *arguments, cwd=folder), "From Python\n")
    project = folder / "project"
    project.mkdir()
    versions = json.loads((TYPESCRIPT / "package.json").read_text())["dependencies"]
    (project / "package.json").write_text(json.dumps({"type": "module", "dependencies": versions | {NAME: f"file:{archive}"}}))
    (project / "use.mjs").write_text(USE_TYPESCRIPT)
    run("npm", "install", "--silent", "--no-audit", "--no-fund", cwd=project)
    done = run("node", "use.mjs", *arguments, cwd=project, timeout=PATIENCE)
    report.check("the TypeScript package writes a note", done, "From TypeScript\n")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/packages").resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*.whl"), *out.glob("*.tgz")]:
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="packages-") as folder, Quickstart(Path(folder)) as quickstart:
        folder = Path(folder)
        wheel, archive = build_python(folder, out), build_typescript(folder, out)
        print(f"built {wheel} and {archive}")
        report.play(use, folder, quickstart, wheel, archive)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
