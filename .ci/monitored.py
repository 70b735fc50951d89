"""Both services with small limits, and a Prometheus that scrapes them and evaluates deploy/monitoring/alerts.yml within seconds."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, closing, contextmanager

from clients import PASSWORD, PATIENCE, ROOT, Python

MONITORING = ROOT / "deploy/monitoring"
ENVIRONMENT = os.environ | {"MASTER_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
PROGRAMS = {name: ROOT / f"target/debug/{name}-service" for name in ("auth", "profile")}

# The windows of the rules, and the thresholds that a test cannot wait for: an alert with the text that is replaced.
WINDOW = "15s"
THRESHOLDS = {"VerificationKeysOld": ("> 600", "> 10"), "SigningKeysNotLoaded": ("> 30", "> 10")}

# The open files that profile-service may have. It keeps 128 of them free, so 1408 connections are more than 90 % of the files too.
PROFILE_FILES = 1536
AUTH_FLAGS = ["--audience", "profile-service", "--strict-refresh", "--attempts-per-source", "0", "--password-passes", "4"]
PROFILE_FLAGS = ["--key-interval", "1", "--max-calls-per-caller", "4", "--max-connections-per-address", "4096", "--max-unread-bytes", "262144"]


class Program:
    """A process, whose log is read."""

    def __init__(self, *command):
        command = [str(part) for part in command]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.lines, self.changed = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def address(self, pattern):
        """Returns the address in the first log line that matches the pattern."""
        with self.changed:
            find = lambda: next((found for line in self.lines if (found := re.search(pattern, line))), None)
            found = self.changed.wait_for(find, PATIENCE)
        if not found:
            raise RuntimeError(f"no log line matches {pattern!r}: {self.lines}")
        return found[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT, **options)
    return done.returncode, done.stdout + done.stderr


def send(address, path, token=None, body=None):
    """Returns the status and the text of the response to GET, or to POST if there is a body."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, headers | {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def eventually(question, expected):
    """Asks until the answer is as expected, and returns the last answer."""
    deadline = time.monotonic() + PATIENCE
    while (answer := question()) != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def execute(database, *statements):
    """Executes statements on the SQLite file of a service that runs, and returns the rows of the last one."""
    with closing(sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


@contextmanager
def without_table(database, table):
    """Renames a table, so that the statements about it fail. The references of other tables to it stay as they are."""
    keep_references = "PRAGMA legacy_alter_table = ON"
    execute(database, keep_references, f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        execute(database, keep_references, f"ALTER TABLE {table}_away RENAME TO {table}")


@contextmanager
def locked(database):
    """Holds the write lock of an SQLite file."""
    with closing(sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def rewrite_rules(text):
    """Returns the rules with short windows, without `for`, and with the thresholds of the test. Metrics, labels and comparisons stay."""
    for alert, (threshold, replacement) in THRESHOLDS.items():
        head, tail = text.split(f"- alert: {alert}\n")
        expression, rest = tail.split("\n", 1)
        if not expression.endswith(threshold):
            raise RuntimeError(f"the threshold of {alert} is not {threshold!r}: {expression}")
        text = f"{head}- alert: {alert}\n{expression.removesuffix(threshold)}{replacement}\n{rest}"
    return re.sub(r"\[\d+m\]", f"[{WINDOW}]", re.sub(r"for: \w+", "for: 0s", text))


class Monitored:
    """Both services and Prometheus. `auth` and `profile` are the addresses that clients call."""

    def __init__(self, folder, report):
        self.folder, self.report = folder, report
        self.databases = {name: folder / f"{name}.db" for name in PROGRAMS}
        # The alerts that have fired, and those that fired before the scenario that runs.
        self.fired, self.before = set(), []
        self.stack, self.python = ExitStack(), Python(folder)

    def __enter__(self):
        with self.stack:
            self._start()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _start(self):
        for name, program in PROGRAMS.items():
            self.report.check(f"{name}-service migrate", run(program, "migrate", *self._database(name))[0], 0)
        create = [PROGRAMS["auth"], "clients", "create", "profile-service", "--permission", "auth.watch_event", *self._database("auth")]
        created = subprocess.run(create, check=True, capture_output=True, text=True, env=ENVIRONMENT)
        (self.folder / "secret").write_text(created.stdout)
        # auth-service listens for other machines, so that it serves its metrics on their own address only.
        flags = ["--listen", "0.0.0.0:0", "--tls", "external", "--metrics-listen", "127.0.0.1:0", *AUTH_FLAGS]
        self.auth_program = self._open(PROGRAMS["auth"], "serve", *self._database("auth"), *flags)
        self.auth_metrics = self.auth_program.address(r"serving the metrics.*address=(\S+)")
        port = self.auth_program.address(r"serving (?!the).*address=(\S+)").rpartition(":")[2]
        self.auth = f"127.0.0.1:{port}"
        client = ["--client-id", "profile-service", "--client-secret-file", self.folder / "secret", "--auth-url", f"http://{self.auth}"]
        flags = ["--listen", "127.0.0.1:0", *client, *PROFILE_FLAGS]
        limited = ["prlimit", f"--nofile={PROFILE_FILES}"]
        self.profile = self._open(*limited, PROGRAMS["profile"], "serve", *self._database("profile"), *flags).address(r"serving.*address=(\S+)")
        text = (MONITORING / "prometheus.yml").read_text()
        text = text.replace("127.0.0.1:50051", self.auth_metrics).replace("127.0.0.1:50052", self.profile)
        (self.folder / "prometheus.yml").write_text(text.replace("15s", "1s"))
        (self.folder / "alerts.yml").write_text(rewrite_rules((MONITORING / "alerts.yml").read_text()))
        data, listen = f"--storage.tsdb.path={self.folder}/data", "--web.listen-address=127.0.0.1:0"
        prometheus = self._open("prometheus", f"--config.file={self.folder}/prometheus.yml", data, listen)
        self.prometheus = prometheus.address(r'msg="Listening on" address=(\S+)')

    def _open(self, *command):
        return self.stack.enter_context(Program(*command))

    def _database(self, name):
        return ["--database-url", f"sqlite:{self.databases[name]}"]

    # The calls of users.

    def register(self, username):
        """Registers a user, and returns an access token."""
        status, text = send(self.auth, "/v1/users:register", body={"username": username, "password": PASSWORD})
        if status != 200:
            raise RuntimeError(f"Register failed: {text}")
        return self.log_in(username)["accessToken"]

    def log_in(self, username):
        status, text = send(self.auth, "/v1/tokens:login", body={"username": username, "password": PASSWORD})
        if status != 200:
            raise RuntimeError(f"Login failed: {text}")
        return json.loads(text)

    # The questions to Prometheus.

    def ask(self, query):
        """Returns the series of a query, or None if the query is not valid."""
        status, text = send(self.prometheus, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        return json.loads(text)["data"]["result"] if status == 200 else None

    def firing(self):
        """Returns the alerts that fire, each with its job."""
        series = self.ask('ALERTS{alertstate="firing"}') or []
        return sorted({(one["metric"]["alertname"], one["metric"].get("job")) for one in series})

    def check_firing(self, step, job, *names, meanwhile=lambda: None):
        """Checks that these alerts of a job fire at the same time, and did not before the scenario. Calls `meanwhile` before each look."""
        expected = sorted((name, job) for name in names)

        def look():
            meanwhile()
            return [alert for alert in self.firing() if alert in expected]

        found = {"before": [alert for alert in expected if alert in self.before], "now": eventually(look, expected)}
        if self.report.check(f"{', '.join(names)}: {step}", found, {"before": [], "now": expected})["now"] == expected:
            self.fired.update(names)

    def check_stopped(self, step, job, *names):
        """Checks that none of these alerts of a job fires any more."""
        look = lambda: [alert for alert in self.firing() if alert in [(name, job) for name in names]]
        self.report.check(f"{step}: no {', '.join(names)}", eventually(look, []), [])
