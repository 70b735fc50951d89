"""Calls the quickstart with real clients, and compares everything that they print.

grpcurl and buf curl use reflection; Python uses stubs that grpcio-tools generates from the protos. All three run the same scenario, and curl runs one
over HTTP. Then the quickstart is stopped, killed and started again on the same data.
"""

import base64
import importlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from xml.etree import ElementTree

import grpc
from google.protobuf import any_pb2, json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # the timeout of every step, in seconds
PASSWORD = "seven blue cafes of tin"
HEALTH = "grpc.health.v1.Health"


class Like:
    """Equals every string that matches the pattern, so that complete responses can be compared."""

    def __init__(self, pattern):
        self.pattern = pattern

    def __eq__(self, other):
        return isinstance(other, str) and re.fullmatch(self.pattern, other) is not None

    def __repr__(self):
        return f"/{self.pattern}/"


UUID = Like(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = Like(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ETAG = Like(r'".+"')
JWT = Like(r"[\w-]+\.[\w-]+\.[\w-]+")


class Report:
    """Prints one line per step, and counts them."""

    passed = failed = 0

    def check(self, step, actual, expected):
        if actual == expected:
            self.passed += 1
            print(f"ok      {step}")
        else:
            self.failed += 1
            print(f"FAILED  {step}\n        expected {expected}\n        got      {actual}")
        return actual

    def play(self, part, *arguments):
        """Runs a part. An exception counts as one failure, and the next part still runs."""
        try:
            return part(*arguments, self)
        except Exception:
            self.failed += 1
            traceback.print_exc(file=sys.stdout)


class Quickstart:
    """The program under test, from its first line of output to its exit."""

    def __init__(self, folder, *flags):
        self.errors = open(folder / "stderr", "a+")
        listen = ["--auth-listen", "127.0.0.1:0", "--profile-listen", "127.0.0.1:0"]
        command = [ROOT / "target/debug/quickstart", "--data-dir", folder / "data", *listen, *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        try:
            self.said = self._read_greeting()
        except BaseException:
            self.kill()
            raise
        self.auth, self.profile = self.said["auth-service"], self.said["profile-service"]

    def _read_greeting(self):
        """Returns the names and values before the first empty line, which is printed when both services serve."""
        deadline = threading.Timer(PATIENCE, self.process.kill)
        deadline.start()
        said = {}
        for line in self.process.stdout:
            if not line.strip():
                deadline.cancel()
                return said
            if words := re.fullmatch(r"([\w-]+)\s+(\S+)\n", line):
                said[words[1]] = words[2]
        deadline.cancel()
        raise RuntimeError(f"the quickstart did not start:\n{self.log()}")

    def stop(self):
        """Sends SIGTERM, and returns the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def kill(self):
        self.process.kill()
        return self.process.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
        self.errors.close()

    def log(self):
        self.errors.seek(0)
        return self.errors.read()


class Client:
    def mask(self, *paths):
        """Returns a field mask in the JSON form of protobuf: one string in camel case."""
        return ",".join(re.sub("_(.)", lambda letter: letter[1].upper(), path) for path in paths)


class Python(Client):
    """grpcio, with stubs generated from the protos."""

    name, user, user_agent = "grpcio", "carol", Like("grpc-python/.+")

    def __init__(self, folder):
        stubs = folder / "stubs"
        stubs.mkdir()
        # Google's protos are in googleapis-common-protos.
        protos, third_party = ROOT / "proto", ROOT / "proto/third_party"
        files = [file for name in ("access", "auth", "profiles") for file in protos.glob(f"{name}/**/*.proto")]
        files += third_party.glob("buf/**/*.proto")
        includes = [f"-I{folder}" for folder in (third_party, protos, Path(protoc.__file__).parent / "_proto")]
        if protoc.main(["protoc", *includes, f"--python_out={stubs}", f"--grpc_python_out={stubs}", *map(str, files)]) != 0:
            raise RuntimeError("protoc failed")
        sys.path.insert(0, str(stubs))
        modules = [".".join(file.relative_to(stubs).with_suffix("").parts) for file in stubs.rglob("*_pb2.py")]
        self.services, self.stubs = {}, {}
        for module in [*modules, "grpc_health.v1.health_pb2"]:
            stub_module = importlib.import_module(f"{module}_grpc")
            for name, service in importlib.import_module(module).DESCRIPTOR.services_by_name.items():
                self.services[service.full_name] = service
                self.stubs[service.full_name] = getattr(stub_module, f"{name}Stub")

    def call(self, address, method, request, token=None):
        service, name = method.split("/")
        kind = GetMessageClass(self.services[service].methods_by_name[name].input_type)
        message = json_format.ParseDict(request, kind())
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with grpc.insecure_channel(address) as channel:
            try:
                answer = getattr(self.stubs[service](channel), name)(message, metadata=metadata, timeout=PATIENCE)
            except grpc.RpcError as error:
                trailers = dict(error.trailing_metadata())
                status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
                return refusal(error.code().name, [(detail.type_url, detail.value) for detail in status.details])
        return json_format.MessageToDict(answer)

    def methods(self, prefix):
        return sorted(f"{name}/{m.name}" for name, s in self.services.items() if name.startswith(prefix) for m in s.methods)


class Command(Client):
    """A client program that prints its response to stdout, or an error to stderr, as JSON."""

    def call(self, address, method, request, token=None):
        header = ["-H", f"authorization: Bearer {token}"] if token else []
        done = self.run([*header, "-d", json.dumps(request)], address, method)
        if done.returncode == 0:
            return json.loads(done.stdout)
        try:
            return self.refusal(json.loads(done.stderr))
        except ValueError:
            return {"printed": done.stderr, "exit code": done.returncode}

    def run(self, flags, address, *words):
        command = self.command(flags, address, *words)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)


class Grpcurl(Command):
    """Uses reflection v1alpha."""

    name, user, user_agent = "grpcurl", "alice", Like("grpcurl/.+")

    def command(self, flags, address, *words):
        return ["grpcurl", "-plaintext", "-format-error", *flags, address, *words]

    def mask(self, *paths):
        # This version accepts a mask only as a message.
        return {"paths": paths}

    def refusal(self, error):
        code = next(code.name for code in grpc.StatusCode if code.value[0] == error["code"])
        return refusal(code, [(detail["@type"], self.detail(detail)) for detail in error["details"]])

    def detail(self, printed):
        """Returns the bytes of a detail. It is printed as JSON if reflection knows its type, and as bytes otherwise."""
        if "@value" in printed:
            return base64.b64decode(printed["@value"])
        return json_format.ParseDict(printed, any_pb2.Any()).value

    def methods(self, address, prefix):
        services = [name for name in self.run([], address, "list").stdout.split() if name.startswith(prefix)]
        methods = [method for name in services for method in self.run([], address, "list", name).stdout.split()]
        return sorted("/".join(method.rsplit(".", 1)) for method in methods)


class BufCurl(Command):
    """Uses reflection v1."""

    name, user, user_agent = "buf curl", "bob", Like(".*buf/.+")

    def command(self, flags, address, *words):
        plain_grpc = ["--protocol", "grpc", "--http2-prior-knowledge", "--reflect", "--reflect-protocol", "grpc-v1"]
        return ["buf", "curl", *plain_grpc, *flags, "/".join([f"http://{address}", *words])]

    def refusal(self, error):
        # Its base64 has no padding, and excess padding is ignored.
        return refusal(error["code"].upper(), [(d["type"], base64.b64decode(d["value"] + "==")) for d in error["details"]])

    def methods(self, address, prefix):
        return sorted(line for line in self.run(["--list-methods"], address).stdout.split() if line.startswith(prefix))


def refusal(code, details):
    """Returns an error in one form for all clients. `details` are those of google.rpc.Status, as (type, bytes)."""
    found = {"refused": code}
    for kind, value in details:
        match kind.rsplit("/", 1)[-1]:
            case "google.rpc.ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(value)
                found |= {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
            case "google.rpc.BadRequest":
                violations = error_details_pb2.BadRequest.FromString(value).field_violations
                found["violations"] = [(violation.field, violation.reason) for violation in violations]
    return found


def refused(code, reason, **more):
    return {"refused": code, "reason": reason, "domain": "access.v1", "metadata": {}} | more


def user(name, **more):
    return {"userId": UUID, "username": name, "isActive": True, "createTime": TIME, "updateTime": TIME, "etag": ETAG} | more


def note(title, visibility="VISIBILITY_PRIVATE"):
    known = {"userId": UUID, "noteId": UUID, "createTime": TIME, "updateTime": TIME, "etag": ETAG}
    return known | {"title": title, "visibility": visibility}


def request_note(title, **more):
    return {"userId": "me", "note": {"title": title} | more}


def tokens(**more):
    token = {"tokenType": "Bearer", "accessToken": JWT, "expiresIn": 600, "refreshToken": JWT, "refreshExpiresIn": 1209600}
    return token | more


def scenario(client, quickstart, report):
    """Runs the calls of a new user, allowed and denied ones."""
    auth, profile, name = quickstart.auth, quickstart.profile, client.user

    def check(step, address, method, request, expected, token=None):
        return report.check(f"{client.name}: {step}", client.call(address, method, request, token), expected)

    for address in (auth, profile):
        check("health", address, f"{HEALTH}/Check", {}, {"status": "SERVING"})

    credentials = {"username": name, "password": PASSWORD}
    check("register", auth, "auth.v1.UserService/Register", credentials, user(name))
    login = tokens(user=user(name, lastLoginTime=TIME))
    login = check("log in", auth, "auth.v1.TokenService/Login", credentials, login)
    token = login["accessToken"]
    session = {"sessionId": UUID, "userAgent": client.user_agent, "address": "127.0.0.1", "isCurrent": True}
    session |= {"createTime": TIME, "lastUseTime": TIME, "expireTime": TIME}
    who = {"user": user(name, lastLoginTime=TIME), "session": session}
    check("who am I", auth, "auth.v1.IdentityService/WhoAmI", {}, who, token)

    create, notes = "profiles.v1.NoteService/CreateNote", "profiles.v1.NoteService/ListNotes"
    request = request_note("Hello", visibility="VISIBILITY_PUBLIC")
    created = check("create a note", profile, create, request, note("Hello", "VISIBILITY_PUBLIC"), token)
    check("list the notes", profile, notes, {"userId": "me"}, {"notes": [created]}, token)

    known = {"bio": "Likes tin.", "birthDate": {"year": 1990, "month": 2, "day": 28}, "website": "https://example.org/"}
    request = {"profile": {"userId": "me", **known}, "updateMask": client.mask("bio", "birth_date", "website")}
    updated = {"userId": created["userId"], "displayName": name, "isActive": True, "createTime": TIME, "updateTime": TIME}
    updated |= known | {"etag": ETAG}
    check("update the profile", profile, "profiles.v1.ProfileService/UpdateProfile", request, updated, token)

    missing = refused("PERMISSION_DENIED", "PERMISSION_MISSING", metadata={"permission": "auth.view_user"})
    check("may not list users", auth, "auth.v1.UserService/ListUsers", {}, missing, token)
    check("no token, no note", profile, create, request_note("Hello"), refused("UNAUTHENTICATED", "ACCESS_TOKEN_INVALID"))
    too_long = refused("INVALID_ARGUMENT", "FIELD_INVALID", violations=[("note.title", "STRING_MAX_LEN")])
    check("a title of 201 characters", profile, create, request_note("x" * 201), too_long, token)

    refresh = "auth.v1.TokenService/Refresh"
    fresh = check("refresh", auth, refresh, {"refreshToken": login["refreshToken"]}, tokens())
    check("the fresh token works", profile, notes, {"userId": "me"}, {"notes": [created]}, fresh["accessToken"])
    check("log out", auth, "auth.v1.TokenService/Logout", {"refreshToken": fresh["refreshToken"]}, {})
    ended = refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID", domain="auth-service")
    check("no refresh after that", auth, refresh, {"refreshToken": fresh["refreshToken"]}, ended)


def become_ready(python, quickstart, report):
    """Polls the health of both services until they are ready."""
    deadline = time.monotonic() + PATIENCE
    for address in (quickstart.auth, quickstart.profile):
        while (answer := python.call(address, f"{HEALTH}/Check", {})) != {"status": "SERVING"} and time.monotonic() < deadline:
            pass
        report.check("ready", answer, {"status": "SERVING"})


def list_methods(clients, python, quickstart, report):
    """Compares the methods that reflection lists with those that the protos declare."""
    for address, package in ((quickstart.auth, "auth.v1."), (quickstart.profile, "profiles.v1.")):
        for client in clients:
            report.check(f"{client.name}: reflection of {package}", client.methods(address, package), python.methods(package))


def superuser(python, quickstart, report):
    """Lists the users of the scenario as the superuser."""
    credentials = {"username": quickstart.said["superuser"], "password": quickstart.said["password"]}
    token = python.call(quickstart.auth, "auth.v1.TokenService/Login", credentials)["accessToken"]
    answer = python.call(quickstart.auth, "auth.v1.UserService/ListUsers", {}, token)
    admin = user("admin", lastLoginTime=TIME, isSuperuser=True)
    users = [admin, *(user(name, lastLoginTime=TIME) for name in ("alice", "bob", "carol"))]
    report.check("grpcio: the superuser lists users", answer, {"users": users})
    return token


def administer(client, quickstart, token, report):
    """Rotates the keys and deactivates a user, as the superuser."""

    def check(step, method, request, expected, token=token):
        return report.check(f"{client.name}: {step}", client.call(quickstart.auth, method, request, token), expected)

    def login(step, expected):
        return check(step, "auth.v1.TokenService/Login", {"username": "alice", "password": PASSWORD}, expected, None)

    def key(state, **times):
        known = {"keyId": Like(r"[\w-]{43}"), "size": "KEY_SIZE_RSA_2048", "createTime": TIME, "activatableTime": TIME}
        return known | {"state": f"KEY_STATE_{state}"} | times

    first = key("ACTIVE", activateTime=TIME)
    first = check("list the keys", "auth.v1.KeyService/ListKeys", {}, {"keys": [first]})["keys"][0]
    made = check("create a key", "auth.v1.KeyService/CreateKey", {}, key("PENDING"))
    chosen = {"keyId": made["keyId"]}
    too_young = refused("FAILED_PRECONDITION", "KEY_TOO_YOUNG", domain="auth-service", violations=[("key_id", "KEY_PUBLISHED_LONG_ENOUGH")])
    check("activate it too early", "auth.v1.KeyService/ActivateKey", chosen, too_young)
    active = made | key("ACTIVE", activateTime=TIME) | chosen
    active = check("activate it all the same", "auth.v1.KeyService/ActivateKey", chosen | {"force": True}, active)
    retired = first | {"state": "KEY_STATE_RETIRED", "retireTime": TIME, "expireTime": TIME}
    check("list the keys again", "auth.v1.KeyService/ListKeys", {}, {"keys": [active, retired]})

    alice = user("alice", lastLoginTime=TIME)
    found = login("log in with the new key", tokens(user=alice))
    header = json.loads(base64.urlsafe_b64decode(found["accessToken"].split(".")[0] + "=="))
    report.check(f"{client.name}: it signs", header["kid"], made["keyId"])
    someone = {"userId": found["user"]["userId"]}
    inactive = {name: value for name, value in alice.items() if name != "isActive"}
    check("deactivate a user", "auth.v1.UserService/DeactivateUser", someone, inactive)
    ended = refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID", domain="auth-service")
    check("no refresh after that", "auth.v1.TokenService/Refresh", {"refreshToken": found["refreshToken"]}, ended, None)
    login("nor a login", refused("UNAUTHENTICATED", "CREDENTIALS_INVALID", domain="auth-service"))
    check("activate the user", "auth.v1.UserService/ActivateUser", someone, alice)
    login("log in again", tokens(user=alice))


class Curl:
    """Uses HTTP with JSON and XML, over HTTP/1.1 or HTTP/2."""

    def __init__(self, flags):
        self.flags, self.name = flags, " ".join(["curl", *flags])

    def run(self, *words):
        command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), *self.flags, *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout

    def json(self, method, url, token=None, body=None):
        """Returns the status and the body."""
        words = ["--request", method, "--write-out", "\n%{http_code}", url]
        if token:
            words += ["--header", f"authorization: Bearer {token}"]
        if body is not None:
            words += ["--header", "content-type: application/json", "--data", json.dumps(body)]
        text, status = self.run(*words).rsplit("\n", 1)
        return int(status), json.loads(text)


def visit_over_http(client, name, quickstart, report):
    """Runs a scenario over the HTTP routes of the protos."""
    auth, profile = f"http://{quickstart.auth}", f"http://{quickstart.profile}"

    def check(step, actual, expected):
        return report.check(f"{client.name}: {step}", actual, expected)

    # JSON answers contain the fields that have their default value.
    defaults = {"email": "", "firstName": "", "lastName": "", "isSuperuser": False}
    credentials = {"username": name, "password": PASSWORD}
    check("register", client.json("POST", f"{auth}/v1/users:register", body=credentials), (200, user(name) | defaults))
    login = client.json("POST", f"{auth}/v1/tokens:login", body=credentials)
    expected = tokens(user=user(name, lastLoginTime=TIME) | defaults, scope="")
    token = check("log in", login, (200, expected))[1]["accessToken"]
    notes = f"{profile}/v1/profiles/me/notes"
    expected = note("Tea & <b>") | {"body": ""}
    created = check("create a note", client.json("POST", notes, token, {"title": "Tea & <b>"}), (200, expected))[1]
    found = {"notes": [created], "nextPageToken": ""}
    check("list the notes", client.json("GET", f"{notes}?page_size=10", token), (200, found))
    status, error = client.json("POST", notes, token, {"titel": "x"})
    violation = error["details"][1]["fieldViolations"][0]
    check("an unknown field", (status, violation["field"], violation["reason"]), (400, "note.titel", "FIELD_UNKNOWN"))
    check("no token, no note", client.json("POST", notes, None, {"title": "x"})[0], 401)
    check("an unknown path", client.json("GET", f"{profile}/v1/nothing", token)[0], 404)

    bearer = ["--header", f"authorization: Bearer {token}"]
    lines = client.run(*bearer, f"{profile}/v1/profiles/me:export").splitlines()
    exported = [json.loads(line)["result"] for line in lines]
    check("export as lines", [list(item) for item in exported], [["profile"], ["note"]])
    events = client.run(*bearer, "--header", "accept: text/event-stream", f"{profile}/v1/profiles/me:export").split("\n\n")
    events = [json.loads(event.removeprefix("data: ")) for event in events if event]
    check("export as events", events, exported)

    accept_xml = ["--header", "accept: application/xml"]
    root = ElementTree.fromstring(client.run(*bearer, *accept_xml, f"{notes}/{created['noteId']}").encode())
    check("a note as XML", {field.tag: field.text for field in root}, {name: value for name, value in created.items() if value})
    document = ElementTree.Element("Note")
    ElementTree.SubElement(document, "title").text = "From \"XML\" & back"
    written = ElementTree.tostring(document, encoding="unicode")
    answer = client.run(*bearer, *accept_xml, "--header", "content-type: application/xml", "--data", written, notes)
    check("a note from XML", ElementTree.fromstring(answer.encode()).findtext("title"), 'From "XML" & back')


def call_by_grpc_web(quickstart, report):
    """Calls a method with buf curl over gRPC-Web."""
    url = f"http://{quickstart.auth}/auth.v1.KeyService/GetJwks"
    command = ["buf", "curl", "--protocol", "grpcweb", "--schema", str(ROOT), "--data", "{}", url]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT)
    found = json.loads(done.stdout) if done.returncode == 0 else done.stderr
    key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": Like(r"[\w-]{43}"), "n": Like(r"[\w-]+"), "e": "AQAB"}
    report.check("buf curl: the keys by gRPC-Web", found, {"keys": [key]})


def restart(python, folder, report):
    """Checks that the data survives a stop and a crash."""

    def call(method, request, token=None):
        address = quickstart.auth if method.startswith("auth.") else quickstart.profile
        return python.call(address, method, request, token)

    def log_in():
        return call("auth.v1.TokenService/Login", {"username": "alice", "password": PASSWORD})["accessToken"]

    def titles(token):
        notes = call("profiles.v1.NoteService/ListNotes", {"userId": "me"}, token)["notes"]
        return [note["title"] for note in notes]

    with Quickstart(folder) as quickstart:
        report.check("restart: no second superuser", set(quickstart.said), {"auth-service", "profile-service"})
        token = log_in()
        report.check("restart: the note is there", titles(token), ["Hello"])
        created = call("profiles.v1.NoteService/CreateNote", request_note("Last words"), token)
        quickstart.kill()
        report.check("kill -9: right after an acknowledged note", created, note("Last words"))
    with Quickstart(folder) as quickstart:
        report.check("kill -9: both notes are there", titles(log_in()), ["Last words", "Hello"])
        report.check("kill -9: stops on SIGTERM afterwards", quickstart.stop(), 0)
        report.check("nothing in the log is an error", re.findall(r".*ERROR.*", quickstart.log()), [])


def main():
    # Ends the quickstart as well if this program is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        folder = Path(folder)
        python, grpcurl, buf = Python(folder), Grpcurl(), BufCurl()
        with Quickstart(folder) as quickstart:
            report.play(become_ready, python, quickstart)
            report.play(list_methods, [grpcurl, buf], python, quickstart)
            for client in (grpcurl, buf, python):
                report.play(scenario, client, quickstart)
            report.play(call_by_grpc_web, quickstart)
            token = report.play(superuser, python, quickstart)
            report.play(administer, grpcurl, quickstart, token)
            # These run last, because the superuser lists all users above.
            report.play(visit_over_http, Curl(["--http1.1"]), "dora", quickstart)
            report.play(visit_over_http, Curl(["--http2-prior-knowledge"]), "emil", quickstart)
            report.check("stops on SIGTERM", quickstart.stop(), 0)
        report.play(restart, python, folder)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
