"""Tests the HTTP API of the quickstart with third-party libraries: validates and fuzzes the OpenAPI document, obtains, refreshes and
verifies tokens, and runs the examples.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jwt
import requests
import yaml
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import LegacyApplicationClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from requests_oauthlib import OAuth2Session

from clients import JWT, PASSWORD, PATIENCE, ROOT, Quickstart, Report

# requests-oauthlib requires TLS; the quickstart listens on this machine only.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# These methods end the session of the caller, so that every later call would be rejected.
ENDS_THE_CALLER = ["UserService_DeleteUser", "UserService_DeactivateUser", "UserService_SetPassword", "UserService_ChangePassword"]


def post(url, body, token=None):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return requests.post(url, json=body, headers=headers, timeout=PATIENCE)


def log_in(auth, username):
    return post(f"{auth}/v1/tokens:login", {"username": username, "password": PASSWORD}).json()["accessToken"]


def describe(auth, profile, report):
    """Checks that the OpenAPI document is valid, and that JSON and YAML are equal."""
    for url in (auth, profile):
        document = requests.get(f"{url}/openapi.json", timeout=PATIENCE).json()
        errors = [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]
        report.check(f"{url}/openapi.json is OpenAPI 3.1", errors, [])
        as_yaml = yaml.safe_load(requests.get(f"{url}/openapi.yaml", timeout=PATIENCE).text)
        report.check(f"{url}/openapi.yaml says the same", as_yaml == document, True)


def verify(auth, report):
    """Verifies a token with PyJWT and jose, with the key set that the metadata names."""
    metadata = requests.get(f"{auth}/.well-known/oauth-authorization-server", timeout=PATIENCE).json()
    token = log_in(auth, "alice")
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="profile-service", issuer=metadata["issuer"])
    report.check("PyJWT verifies a token", claims["preferred_username"], "alice")
    described = (ROOT / "docs/reference/token-claims.md").read_text()
    report.check("docs/reference/token-claims.md names its claims", [name for name in claims if f"`{name}`" not in described], [])
    arguments = [metadata["jwks_uri"], metadata["issuer"], token]
    done = subprocess.run(["node", ROOT / ".ci/jose/verify.mjs", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    report.check("jose verifies a token, and refuses a forged one", (done.stdout, done.stderr), ("alice\nrefused\n", ""))
    if (go := ROOT / "target/go/verify").exists():
        command = [go, metadata["jwks_uri"], metadata["issuer"], "profile-service"]
        done = subprocess.run([*command, token], capture_output=True, text=True, timeout=PATIENCE)
        report.check("the example in Go verifies a token", (done.stdout, done.returncode), ("alice\n", 0))
        forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
        done = subprocess.run([*command, forged], capture_output=True, text=True, timeout=PATIENCE)
        report.check("and rejects a forged one", (done.stdout, done.returncode), ("", 1))


def authorize(auth, admin, report):
    """Obtains, refreshes, introspects and revokes tokens with Authlib and requests-oauthlib."""
    token_url = f"{auth}/oauth2/token"
    tokens = {"access_token": JWT, "refresh_token": JWT, "token_type": "Bearer", "expires_in": 600}

    def shown(answer):
        return {name: answer.get(name) for name in tokens}

    authlib = AuthlibSession("first-party", token_endpoint_auth_method="none")
    first = authlib.fetch_token(token_url, grant_type="password", username="alice", password=PASSWORD)
    report.check("Authlib obtains tokens", shown(first), tokens)
    second = authlib.refresh_token(token_url, first["refresh_token"])
    report.check("Authlib refreshes them", shown(second), tokens)
    report.check("with another refresh token", second["refresh_token"] != first["refresh_token"], True)
    report.check("Authlib revokes them", authlib.revoke_token(f"{auth}/oauth2/revoke", second["refresh_token"]).status_code, 200)
    again = requests.post(token_url, {"grant_type": "refresh_token", "refresh_token": second["refresh_token"]}, timeout=PATIENCE)
    report.check("which is their end", (again.status_code, again.json()["error"]), (400, "invalid_grant"))

    legacy = OAuth2Session(client=LegacyApplicationClient(client_id="first-party"))
    first = legacy.fetch_token(token_url, username="alice", password=PASSWORD, include_client_id=True)
    report.check("requests-oauthlib obtains tokens", shown(first), tokens)
    second = legacy.refresh_token(token_url, client_id="first-party")
    report.check("requests-oauthlib refreshes them", shown(second), tokens)

    client = {"clientId": "reporter", "permissions": ["auth.introspect_token"]}
    secret = post(f"{auth}/v1/clients", client, admin).json()["clientSecret"]
    service = AuthlibSession("reporter", secret, token_endpoint_auth_method="client_secret_basic")
    issued = service.fetch_token(token_url, grant_type="client_credentials")
    report.check("Authlib obtains a service's token", issued["scope"], "auth.introspect_token")
    found = service.introspect_token(f"{auth}/oauth2/introspect", second["access_token"]).json()
    report.check("Authlib introspects", (found["active"], found["username"]), (True, "alice"))


def django(auth, report):
    """Calls the endpoints of simplejwt as a front end does."""

    def call(path, body):
        answer = post(f"{auth}/api/token/{path}", body)
        return answer.status_code, answer.json()

    status, pair = report.check("simplejwt: obtain", call("", {"username": "alice", "password": PASSWORD}), (200, {"refresh": JWT, "access": JWT}))
    status, fresh = report.check("simplejwt: refresh", call("refresh/", {"refresh": pair["refresh"]}), (200, {"access": JWT, "refresh": JWT}))
    report.check("simplejwt: verify", call("verify/", {"token": fresh["access"]}), (200, {}))
    report.check("simplejwt: blacklist", call("blacklist/", {"refresh": fresh["refresh"]}), (200, {}))
    gone = (401, {"detail": "Token is blacklisted", "code": "token_not_valid"})
    report.check("simplejwt: it is on the blacklist", call("refresh/", {"refresh": fresh["refresh"]}), gone)


def run_examples(auth, profile, report):
    """Runs the example clients. Each creates a note."""
    hosts = [url.removeprefix("http://") for url in (auth, profile)]
    examples = {
        "Rust": [ROOT / "target/debug/client", "carol", PASSWORD, "from Rust", auth, profile],
        "Python": [sys.executable, ROOT / "examples/python/notes.py", "carol", PASSWORD, "from Python", *hosts],
        "TypeScript": ["node", ROOT / "examples/typescript/out/src/notes.js", "carol", PASSWORD, "from TypeScript", auth, profile],
    }
    if (go := ROOT / "target/go/notes").exists():
        examples["Go"] = [go, "carol", PASSWORD, "from Go", *hosts]
    titles = []
    for language, command in examples.items():
        titles.insert(0, f"from {language}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        report.check(f"the example in {language}", (done.stdout.splitlines(), done.returncode), (titles, 0))


def fuzz(url, token, who, exclude, report):
    """Generates requests from the OpenAPI document with schemathesis, and checks the responses against it."""
    command = [SCHEMATHESIS, "run", f"{url}/openapi.json", "--header", f"authorization: Bearer {token}", "--checks", CHECKS]
    command += ["--max-examples", "20", "--max-time", "60", "--seed", "1", "--generation-database", "none", "--no-color"]
    # No JSON Schema keyword excludes NUL from strings. A warning about rejected requests is not a failure.
    command += ["--generation-allow-x00", "false", "--warnings", "off", "--continue-on-failure", "--request-timeout", "30"]
    for operation in exclude:
        command += ["--exclude-operation-id", operation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tempfile.gettempdir())
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:])
    cases = re.search(r"(\d+) generated", done.stdout)
    print(f"        {cases[0] if cases else 'no case'}")
    report.check(f"schemathesis: {url} as {who}", (done.returncode, bool(cases)), (0, True))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder, Quickstart(Path(folder), "--password-grant") as quickstart:
        auth, profile = f"http://{quickstart.auth}", f"http://{quickstart.profile}"
        for username in ("alice", "bob", "carol"):
            post(f"{auth}/v1/users:register", {"username": username, "password": PASSWORD})
        admin = {"username": quickstart.said["superuser"], "password": quickstart.said["password"]}
        admin = post(f"{auth}/v1/tokens:login", admin).json()["accessToken"]
        report.play(describe, auth, profile)
        report.play(verify, auth)
        report.play(authorize, auth, admin)
        report.play(django, auth)
        report.play(run_examples, auth, profile)
        report.play(fuzz, profile, log_in(auth, "bob"), "a user", [])
        report.play(fuzz, auth, log_in(auth, "bob"), "a user", ENDS_THE_CALLER)
        report.play(fuzz, auth, admin, "the superuser", ENDS_THE_CALLER)
        report.check("nothing in the log is an error", re.findall(r".*ERROR.*", quickstart.log()), [])
        report.check("stops on SIGTERM", quickstart.stop(), 0)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
