"""Checks deploy/monitoring with a real Prometheus, which scrapes both services, evaluates the dashboard's queries and fires every alert.

promtool checks the metrics, the configuration and the rules, and fires every alert from made-up series. Then both services serve with small limits,
and alert_scenarios.py causes the condition of every alert. The rules are those of alerts.yml with short windows, see `rewrite_rules`.
"""

import json
import re
import resource
import sys
import tempfile
from pathlib import Path

from alert_scenarios import fire_alerts
from clients import ROOT, Report
from monitored import MONITORING, Monitored, eventually, run, send


def alert_names():
    return re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text())


def check_files(report):
    for command in (["check", "config", "prometheus.yml"], ["check", "config", "prometheus.compose.yml"], ["test", "rules", "alerts-test.yml"]):
        code, output = run("promtool", *command, cwd=MONITORING)
        report.check(f"promtool {' '.join(command)}", (code, "" if code == 0 else output), (0, ""))
    tested = re.findall(r"alertname: (\w+)\n.*\n\s*exp_alerts:\n", (MONITORING / "alerts-test.yml").read_text())
    report.check("each alert is fired by promtool", sorted(tested), sorted(alert_names()))
    described = re.findall(r"^### (\w+)$", (ROOT / "docs/guides/monitoring.md").read_text(), re.MULTILINE)
    report.check("each alert has its paragraph", described, alert_names())


def queries(value):
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from queries(one)


def check_metrics(on, report):
    report.check("no metrics on the address for other machines", send(on.auth, "/metrics")[0], 404)
    report.check("only metrics on their own address", send(on.auth_metrics, "/livez")[0], 404)
    for service, source in (("auth-service", on.auth_metrics), ("profile-service", on.profile)):
        checked = run("promtool", "check", "metrics", input=send(source, "/metrics")[1])
        report.check(f"promtool check metrics of {service}", checked, (0, ""))


def check_prometheus(on, report):
    jobs = lambda: sorted((one["metric"]["job"], one["value"][1]) for one in on.ask("up") or [])
    report.check("both services are scraped", eventually(jobs, [("auth-service", "1"), ("profile-service", "1")]), jobs())
    report.check("nothing fires while both services run", eventually(on.firing, []), [])
    expressions = list(queries(json.loads((MONITORING / "dashboard.json").read_text())))
    wrong = [one for one in expressions if on.ask(one.replace("$job", ".*").replace("$__rate_interval", "5s")) is None]
    report.check(f"{len(expressions)} queries of the dashboard are valid", wrong, [])


def scenario(folder, report):
    with Monitored(folder, report) as on:
        report.play(check_metrics, on)
        report.play(check_prometheus, on)
        report.play(fire_alerts, on, alert_names())


def main():
    # One scenario opens more connections than a process may usually have open files.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = Report()
    report.play(check_files)
    with tempfile.TemporaryDirectory() as name:
        report.play(scenario, Path(name))
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
