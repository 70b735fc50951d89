"""Checks deploy/monitoring with a real Prometheus, which scrapes both services, evaluates the dashboard's queries and fires alerts.

promtool checks the metrics, the configuration and the rules, and fires every alert from made-up series. Two alerts fire from the services: auth-service
stops answering, so that it is down and profile-service loses the event feed; then it continues.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from clients import PATIENCE, ROOT, Report

MONITORING = ROOT / "deploy/monitoring"
ENVIRONMENT = os.environ | {"MASTER_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}


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


def get(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def ask(prometheus, query):
    status, text = get(prometheus, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    return json.loads(text)["data"]["result"] if status == 200 else None


def eventually(question, expected):
    """Asks until the answer is as expected, and returns the last answer."""
    deadline = time.monotonic() + PATIENCE
    while (answer := question()) != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def firing(prometheus, *names):
    series = ask(prometheus, 'ALERTS{alertstate="firing"}') or []
    found = {(one["metric"]["alertname"], one["metric"].get("job")) for one in series}
    return sorted(alert for alert in found if not names or alert[0] in names)


def check_files(report):
    for command in (["check", "config", "prometheus.yml"], ["check", "config", "prometheus.compose.yml"], ["test", "rules", "alerts-test.yml"]):
        code, output = run("promtool", *command, cwd=MONITORING)
        report.check(f"promtool {' '.join(command)}", (code, "" if code == 0 else output), (0, ""))
    alerts = re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    tested = re.findall(r"alertname: (\w+)\n.*\n\s*exp_alerts:\n", (MONITORING / "alerts-test.yml").read_text())
    report.check("each alert is fired", sorted(tested), sorted(alerts))
    described = re.findall(r"^### (\w+)$", (ROOT / "docs/guides/monitoring.md").read_text(), re.MULTILINE)
    report.check("each alert has its paragraph", described, alerts)


def queries(value):
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from queries(one)


def write_configuration(folder, auth, profile):
    """Writes the configuration for these targets, with short intervals."""
    text = (MONITORING / "prometheus.yml").read_text()
    text = text.replace("127.0.0.1:50051", auth).replace("127.0.0.1:50052", profile)
    (folder / "prometheus.yml").write_text(text.replace("15s", "1s"))
    (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 0s", (MONITORING / "alerts.yml").read_text()))


def check_prometheus(prometheus, auth, report):
    jobs = lambda: sorted((one["metric"]["job"], one["value"][1]) for one in ask(prometheus, "up") or [])
    report.check("both services are scraped", eventually(jobs, [("auth-service", "1"), ("profile-service", "1")]), jobs())
    report.check("nothing fires while both services run", eventually(lambda: firing(prometheus), []), [])
    expressions = list(queries(json.loads((MONITORING / "dashboard.json").read_text())))
    wrong = [one for one in expressions if ask(prometheus, one.replace("$job", ".*").replace("$__rate_interval", "5s")) is None]
    report.check(f"{len(expressions)} queries of the dashboard are valid", wrong, [])
    expected = [("FeedLost", "profile-service"), ("RevocationsStale", "profile-service"), ("ServiceDown", "auth-service")]
    names = [name for name, _ in expected]
    auth.process.send_signal(signal.SIGSTOP)
    report.check("alerts while auth-service does not answer", eventually(lambda: firing(prometheus, *names), expected), expected)
    auth.process.send_signal(signal.SIGCONT)
    report.check("no alerts after auth-service continues", eventually(lambda: firing(prometheus, *names), []), [])


def main():
    report = Report()
    report.play(check_files)
    with tempfile.TemporaryDirectory() as name:
        report.play(scenario, Path(name))
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


def scenario(folder, report):
    databases = {service: ["--database-url", f"sqlite:{folder}/{service}.db"] for service in ("auth", "profile")}
    programs = {service: ROOT / f"target/debug/{service}-service" for service in databases}
    for service, database in databases.items():
        report.check(f"{service}-service migrate", run(programs[service], "migrate", *database)[0], 0)
    created = subprocess.run(
        [programs["auth"], "clients", "create", "profile-service", "--permission", "auth.watch_event", *databases["auth"]],
        check=True, capture_output=True, text=True, env=ENVIRONMENT,
    )
    (folder / "secret").write_text(created.stdout)
    serving, serving_metrics = r"serving.*address=(\S+)", r"serving the metrics.*address=(\S+)"
    # auth-service listens for other machines, so that it serves its metrics on their own address only.
    flags = ["--listen", "0.0.0.0:0", "--tls", "external", "--metrics-listen", "127.0.0.1:0"]
    with Program(programs["auth"], "serve", *databases["auth"], *flags) as auth:
        auth_metrics = auth.address(serving_metrics)
        port = auth.address(r"serving (?!the).*address=(\S+)").rpartition(":")[2]
        client = ["--client-id", "profile-service", "--client-secret-file", folder / "secret", "--auth-url", f"http://127.0.0.1:{port}"]
        with Program(programs["profile"], "serve", *databases["profile"], "--listen", "127.0.0.1:0", *client) as profile:
            address = profile.address(serving)
            report.check("no metrics on the address for other machines", get(f"127.0.0.1:{port}", "/metrics")[0], 404)
            report.check("only metrics on their own address", get(auth_metrics, "/livez")[0], 404)
            for service, source in (("auth-service", auth_metrics), ("profile-service", address)):
                checked = run("promtool", "check", "metrics", input=get(source, "/metrics")[1])
                report.check(f"promtool check metrics of {service}", checked, (0, ""))
            write_configuration(folder, auth_metrics, address)
            flags = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:0"]
            with Program("prometheus", *flags) as prometheus:
                report.play(check_prometheus, prometheus.address(r'msg="Listening on" address=(\S+)'), auth)


if __name__ == "__main__":
    sys.exit(main())
