"""Lints both OpenAPI documents, generates clients from them, and keeps notes with each client.

Redocly and Spectral lint. openapi-typescript, openapi-python-client and datamodel-code-generator generate. Each client signs in, creates a
note, changes it and lists it, and reads an answer with a field that its document does not have.
"""

import importlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from clients import PASSWORD, PATIENCE, ROOT, Quickstart, Report

TOOLS = ROOT / ".ci/openapi"
# The client of another release of the service gets this answer.
NEWER = {"addedLater": {"nested": [1]}}
# Generating and compiling takes longer than a call.
TIMEOUT = 120


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT, **options)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:])
    return done


def lint(documents, report):
    npx = TOOLS / "node_modules/.bin"
    redocly = run(npx / "redocly", "lint", "--config", TOOLS / "redocly.yaml", "--max-problems", "20", *documents.values())
    report.check("Redocly finds nothing", redocly.returncode, 0)
    spectral = run(npx / "spectral", "lint", "--ruleset", TOOLS / "spectral.yaml", "--fail-severity", "warn", *documents.values())
    report.check("Spectral finds nothing", spectral.returncode, 0)


def examples(documents, urls, report):
    """Sends examples of the documents as they stand."""
    documents = {name: json.loads(document.read_text()) for name, document in documents.items()}

    def send(name, verb, path, token=None):
        operation = documents[name]["paths"][path][verb]
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = operation["requestBody"]["content"]["application/json"]["example"]
        return requests.request(verb, urls[name] + path, json=body, headers=headers, timeout=PATIENCE)

    report.check("the example of Register works", send("auth", "post", "/v1/users:register").status_code, 200)
    answer = send("auth", "post", "/v1/tokens:login")
    report.check("the example of Login works", answer.status_code, 200)
    token = answer.json()["accessToken"]
    for name, verb, path in [
        ("auth", "patch", "/v1/users/{user_id}"),
        ("profile", "post", "/v1/profiles/{user_id}/notes"),
        ("profile", "patch", "/v1/profiles/{user_id}"),
        ("auth", "post", "/v1/users/{user_id}:changePassword"),
    ]:
        report.check(f"the example of {verb} {path} works", send(name, verb, path, token).status_code, 200)


def typescript(folder, documents, urls, report):
    """Compiles a client whose types are from openapi-typescript, and runs it."""
    npx = TOOLS / "node_modules/.bin"
    for name, document in documents.items():
        done = run(npx / "openapi-typescript", document, "--output", folder / f"{name}.d.ts")
        report.check(f"openapi-typescript generates {name}", done.returncode, 0)
    shutil.copy(TOOLS / "notes.ts", folder / "notes.ts")
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"]
    report.check("TypeScript accepts the client", run(npx / "tsc", *options, "notes.ts", cwd=folder).returncode, 0)
    done = run("node", "notes.js", urls["auth"], urls["profile"], "alice", PASSWORD, cwd=folder)
    report.check("the client in TypeScript keeps a note", done.stdout.split("\n")[:-1], ["created", "changed", "listed", "newer"])


def python(folder, documents, urls, report):
    """Generates packages with openapi-python-client, and calls the services with them."""
    for name, document in documents.items():
        tool = Path(sys.executable).with_name("openapi-python-client")
        config = folder / "config.yaml"
        config.write_text("post_hooks: []\n")
        arguments = ["--path", document, "--output-path", folder / f"{name}_client", "--meta", "none", "--config", config]
        report.check(f"openapi-python-client generates {name}", run(tool, "generate", "--fail-on-warning", *arguments).returncode, 0)
    sys.path.insert(0, str(folder))
    auth, profile = importlib.import_module("auth_client"), importlib.import_module("profile_client")
    models = importlib.import_module("profile_client.models")
    login = importlib.import_module("auth_client.api.token_service.token_service_login")
    request = importlib.import_module("auth_client.models").AuthV1LoginRequest(username="alice", password=PASSWORD)
    tokens = login.sync(client=auth.Client(base_url=urls["auth"]), body=request)
    client = profile.AuthenticatedClient(base_url=urls["profile"], token=tokens.access_token)

    def method(name):
        return importlib.import_module(f"profile_client.api.note_service.note_service_{name}").sync

    note = method("create_note")("me", client=client, body=models.ProfilesV1NoteInput(title="From a generated client"))
    report.check("it creates a note", (note.title, note.body), ("From a generated client", ""))
    change = models.NoteServiceUpdateNoteBody(body="changed")
    changed = method("update_note")("me", note.note_id, client=client, body=change)
    report.check("it changes the note", (changed.title, changed.body), (note.title, "changed"))
    listed = method("list_notes")("me", client=client, search="GENERATED")
    report.check("it lists the note", [found.note_id for found in listed.notes], [note.note_id])
    missing = method("get_note")("me", "01890a5d-ac96-774b-bcce-b302099a8057", client=client)
    report.check("it reads an error", [detail.additional_properties or detail.reason for detail in missing.details][0], "NOT_FOUND")
    newer = models.ProfilesV1Note.from_dict(changed.to_dict() | NEWER)
    report.check("it reads an answer with another field", newer.body, "changed")


def pydantic(folder, documents, urls, report):
    """Generates models with datamodel-code-generator, and reads and writes the bodies of calls with them."""
    tool = Path(sys.executable).with_name("datamodel-codegen")
    for name, document in documents.items():
        arguments = ["--input", document, "--input-file-type", "openapi", "--output", folder / f"{name}_models"]
        arguments += ["--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin"]
        report.check(f"datamodel-code-generator generates {name}", run(tool, *arguments).returncode, 0)
    sys.path.insert(0, str(folder))
    auth = importlib.import_module("auth_models.auth.v1")
    profiles = importlib.import_module("profile_models.profiles.v1")

    def call(verb, url, body=None, token=None):
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        data = body.model_dump_json(exclude_none=True) if body else None
        return requests.request(verb, url, data=data, headers=headers, timeout=PATIENCE).json()

    request = auth.LoginRequest(username="alice", password=PASSWORD)
    tokens = auth.LoginResponse.model_validate(call("POST", f"{urls['auth']}/v1/tokens:login", request))
    notes = f"{urls['profile']}/v1/profiles/me/notes"
    created = call("POST", notes, profiles.NoteInput(title="From a model"), tokens.accessToken)
    note = profiles.Note.model_validate(created)
    report.check("a model is created", note.title, "From a model")
    changed = call("PATCH", f"{notes}/{note.noteId}", profiles.NoteInput(title="Changed"), tokens.accessToken)
    report.check("a model is changed", profiles.Note.model_validate(changed | NEWER).title, "Changed")
    listed = profiles.ListNotesResponse.model_validate(call("GET", f"{notes}?search=changed", token=tokens.accessToken) | NEWER)
    report.check("models are listed", [found.noteId for found in listed.notes], [note.noteId])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    with tempfile.TemporaryDirectory(prefix="generated-") as folder, Quickstart(Path(folder)) as quickstart:
        folder = Path(folder)
        urls = {"auth": f"http://{quickstart.auth}", "profile": f"http://{quickstart.profile}"}
        documents = {}
        for name, url in urls.items():
            documents[name] = folder / f"{name}.json"
            documents[name].write_text(json.dumps(requests.get(f"{url}/openapi.json", timeout=PATIENCE).json()))
        alice = {"username": "alice", "password": PASSWORD}
        requests.post(f"{urls['auth']}/v1/users:register", json=alice, timeout=PATIENCE).raise_for_status()
        report.play(lint, documents)
        report.play(examples, documents, urls)
        for client in (typescript, python, pydantic):
            of_client = folder / client.__name__
            of_client.mkdir()
            report.play(client, of_client, documents, urls)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
