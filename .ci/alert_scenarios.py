"""Causes the condition of every alert of deploy/monitoring/alerts.yml in services that run. No series is made up."""

import base64
import http.client
import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from clients import PATIENCE
from monitored import PROFILE_FILES, eventually, execute, locked, send, without_table

NOTES = "/v1/profiles/me/notes"
LIST_NOTES, CREATE_NOTE = (f"profiles.v1.NoteService/{name}" for name in ("ListNotes", "CreateNote"))
# The beginning of an HTTP/2 connection (RFC 9113 section 3.4), without the frames.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def guess_passwords(on, token):
    def guess():
        for _ in range(5):
            send(on.auth, "/v1/tokens:login", body={"username": "mallory", "password": "one of many guesses"})

    on.check_firing("wrong passwords", "auth-service", "PasswordGuessing", meanwhile=guess)


def fill_hashing_queue(on, token):
    """Sends 200 logins at once. One client may hold half of the places in the queue, of which there are 64 more than threads."""
    count, answers = 200, []
    connections = [http.client.HTTPConnection(on.auth, timeout=PATIENCE) for _ in range(count)]
    for number, connection in enumerate(connections):
        body = json.dumps({"username": f"mallory{number}", "password": "one of many guesses"})
        connection.request("POST", "/v1/tokens:login", body, {"content-type": "application/json"})
    for connection in connections:
        answers.append(connection.getresponse().status)
        connection.close()
    on.report.check("some of the logins are refused, some are not", {401, 429} <= set(answers), True)
    on.check_firing(f"{count} logins at once", "auth-service", "HashingQueueFull")


def reuse_refresh_tokens(on, token):
    """Uses the refresh tokens of 8 sessions twice. With --strict-refresh there is no grace period."""
    answers = set()
    for _ in range(8):
        spent = {"refreshToken": on.log_in("alice")["refreshToken"]}
        answers.add(tuple(send(on.auth, "/v1/tokens:refresh", body=spent)[0] for _ in range(2)))
    on.report.check("a refresh token is accepted once", answers, {(200, 401)})
    on.check_firing("8 spent tokens", "auth-service", "RefreshTokenReuse")


def forge_tokens(on, token):
    header, rest = token.split(".", 1)
    header = json.loads(base64.urlsafe_b64decode(header + "=="))
    made_up = json.dumps(header | {"kid": "made-up"}).encode()
    forged = base64.urlsafe_b64encode(made_up).decode().rstrip("=") + "." + rest

    def call():
        for _ in range(5):
            send(on.profile, NOTES, forged)

    on.check_firing("tokens of a key that does not exist", "profile-service", "TokensWithUnknownKeys", meanwhile=call)


def break_statements(on, token):
    """Makes the statements of ListNotes fail, which is a fault of the service."""
    def call():
        on.python.call(on.profile, LIST_NOTES, {"userId": "me"}, token)
        send(on.profile, NOTES, token)

    with without_table(on.databases["profile"], "notes"):
        on.check_firing("the table of the notes is missing", "profile-service", "InternalErrors", "HttpServerErrors", meanwhile=call)
    answer = on.python.call(on.profile, LIST_NOTES, {"userId": "me"}, token)
    on.report.check("ListNotes succeeds again", "refused" in answer, False)


def lock_database(on, token):
    """Writes notes on 12 threads while another process holds the write lock. A caller may have 4 calls in flight."""
    names, stop = ["DatabasePoolExhausted", "HighLatency", "CallsRefused"], threading.Event()

    def write():
        while not stop.is_set():
            on.python.call(on.profile, CREATE_NOTE, {"userId": "me", "note": {"title": "Hello"}}, token)

    with locked(on.databases["profile"]), ThreadPoolExecutor(12) as threads:
        writers = [threads.submit(write) for _ in range(12)]
        try:
            on.check_firing("the database is locked", "profile-service", *names)
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    on.check_stopped("the database is not locked any more", "profile-service", "DatabasePoolExhausted")


def frame(kind, flags, stream, payload):
    """Returns an HTTP/2 frame (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def connect(address, *frames):
    """Opens an HTTP/2 connection, and sends these frames after an empty SETTINGS frame."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), PATIENCE)
    connection.sendall(PREFACE + frame(4, 0, 0, b"") + b"".join(frames))
    return connection


def open_connections(on, token):
    """Opens almost as many connections as profile-service may have open files."""
    names = ["ConnectionsNearLimit", "FileDescriptorsNearLimit"]
    with ExitStack() as connections:
        for _ in range(PROFILE_FILES - 128 - 8):
            connections.enter_context(connect(on.profile))
        on.check_firing("many connections", "profile-service", *names)
    on.check_stopped("the connections are closed", "profile-service", *names)


def leave_responses_unread(on, token):
    """Requests a document again and again with a flow-control window of 0, so that none of its bytes can be sent."""
    path, authority = b"/openapi.json", on.profile.encode()
    # HPACK (RFC 7541): GET and http from the static table, then the path and the authority as literals without indexing.
    headers = b"\x82\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(authority)]) + authority
    without_window = frame(4, 0, 0, b"\x00\x04" + bytes(4))
    with ExitStack() as connections:
        def request():
            for _ in range(4):
                # END_STREAM and END_HEADERS.
                connections.enter_context(connect(on.profile, without_window, frame(1, 5, 1, headers)))

        # The service ends such a response after a second.
        on.check_firing("responses that nobody reads", "profile-service", "UnreadResponses", meanwhile=request)
    on.check_stopped("the clients have left", "profile-service", "UnreadResponses")


def hide_signing_keys(on, token):
    with without_table(on.databases["auth"], "signing_keys"):
        on.check_firing("the table of the keys is missing", "auth-service", "SigningKeysNotLoaded")
    on.check_stopped("the keys can be read again", "auth-service", "SigningKeysNotLoaded")


@contextmanager
def changed_key(on, change, undo):
    """Changes the only signing key in the database, from which auth-service loads it every 5 seconds."""
    execute(on.databases["auth"], f"UPDATE signing_keys SET {change}")
    try:
        yield
    finally:
        execute(on.databases["auth"], f"UPDATE signing_keys SET {undo}")


def age_signing_key(on, token):
    change, undo = (f"activate_time = datetime(activate_time, '{days} days')" for days in ("-91", "+91"))
    with changed_key(on, change, undo):
        on.check_firing("the key was activated 91 days ago", "auth-service", "SigningKeyOld")
    on.check_stopped("the key was activated today", "auth-service", "SigningKeyOld")


def retire_signing_key(on, token):
    with changed_key(on, "state = 'RETIRED'", "state = 'ACTIVE'"):
        on.check_firing("the only key is retired", "auth-service", "NoActiveSigningKey")
        on.report.check("a key that does not exist is not old", ("SigningKeyOld", "auth-service") in on.firing(), False)
    on.check_stopped("the key is active again", "auth-service", "NoActiveSigningKey")


def stop_auth_service(on, token):
    """Stops the process of auth-service, so that its connections stay open and nothing answers on them."""
    names = ["FeedLost", "RevocationsStale", "VerificationKeysOld"]
    on.auth_program.process.send_signal(signal.SIGSTOP)
    on.check_firing("auth-service does not answer", "auth-service", "ServiceDown")
    on.check_firing("auth-service does not answer", "profile-service", *names)
    on.auth_program.process.send_signal(signal.SIGCONT)
    on.check_stopped("auth-service continues", "auth-service", "ServiceDown")
    on.check_stopped("auth-service continues", "profile-service", *names)


SCENARIOS = [
    guess_passwords,
    fill_hashing_queue,
    reuse_refresh_tokens,
    forge_tokens,
    break_statements,
    lock_database,
    open_connections,
    leave_responses_unread,
    hide_signing_keys,
    age_signing_key,
    retire_signing_key,
    stop_auth_service,
]


def fire_alerts(on, alerts, report):
    """Runs every scenario, and checks that each of these alerts has fired and that none fires afterwards."""
    token = on.register("alice")
    for scenario in SCENARIOS:
        on.before = on.firing()
        report.play(lambda _, scenario=scenario: scenario(on, token))
    report.check("each alert has fired", sorted(on.fired), sorted(alerts))
    report.check("nothing fires in the end", eventually(on.firing, []), [])
