"""Fills the disk under the databases of the quickstart, frees it again, and checks that no acknowledged write is lost.

The disk is a tmpfs in a mount namespace of this script, which needs no privileges where unprivileged user namespaces are allowed.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from clients import PASSWORD, PATIENCE, Quickstart, Report

# The free space that is left for the databases, after the filler.
FREE = 600 * 1024
IN_NAMESPACE = "IN_MOUNT_NAMESPACE"


def enter_namespace():
    """Runs this script again in a mount namespace of its own."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("full disk: NOT RUN: this machine allows no mount namespace")
        return 0
    return subprocess.run([*command, sys.executable, __file__], env=os.environ | {IN_NAMESPACE: "1"}).returncode


def post(url, body, token=None):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return requests.post(url, json=body, headers=headers, timeout=PATIENCE)


def states(url):
    """Returns the state of each health name that `/readyz` shows, and the HTTP status."""
    response = requests.get(f"{url}/readyz", timeout=PATIENCE)
    return {name: response.json()[name]["status"] for name in ("overall", "writes")} | {"http": response.status_code}


def wait_for(url, expected):
    """Returns the states as soon as they are as expected, or at the latest after some seconds."""
    deadline = time.monotonic() + PATIENCE
    while (actual := states(url)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return actual


def fill(disk, free):
    """Leaves this number of bytes free on the disk."""
    left = os.statvfs(disk)
    with open(disk / "filler", "ab") as filler:
        filler.write(bytes(left.f_bavail * left.f_frsize - free))


def scenario(disk, report):
    with Quickstart(disk) as quickstart:
        auth, profile = f"http://{quickstart.auth}", f"http://{quickstart.profile}"
        user = {"username": "alice", "password": PASSWORD}
        report.check("a user is registered", post(f"{auth}/v1/users:register", user).status_code, 200)
        token = post(f"{auth}/v1/tokens:login", user).json()["accessToken"]
        notes = f"{profile}/v1/profiles/me/notes"

        def write():
            return post(notes, {"title": "a note", "body": "x" * 8000}, token)

        report.check("a note is written", write().status_code, 200)
        fill(disk, FREE)
        acknowledged = 1
        while (response := write()).status_code == 200:
            acknowledged += 1
        details = [detail["reason"] for detail in response.json()["details"] if "reason" in detail]
        report.check("a write on a full disk is UNAVAILABLE", (response.status_code, details), (503, ["UNAVAILABLE"]))
        report.check("a read succeeds", requests.get(notes, headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE).status_code, 200)
        fill(disk, 0)
        full = {"overall": "SERVING", "writes": "NOT_SERVING", "http": 200}
        report.check("only the health name writes fails", wait_for(profile, full), full)
        number = 0
        while post(f"{auth}/v1/users:register", user | {"username": f"user{number}"}).status_code == 200:
            number += 1
        print(f"        {acknowledged} notes and {number} users were written before the disk was full")

        (disk / "filler").unlink()
        freed = time.monotonic()
        for name, call in {
            "a note": write,
            "a user": lambda: post(f"{auth}/v1/users:register", user | {"username": "bob"}),
        }.items():
            while call().status_code != 200:
                if time.monotonic() - freed > PATIENCE:
                    raise RuntimeError(f"{name} cannot be written after there is space again")
            print(f"        {name} was written {time.monotonic() - freed:.3f} s after there was space again")
        for url in (auth, profile):
            serving = {"overall": "SERVING", "writes": "SERVING", "http": 200}
            report.check("every health name is SERVING again", wait_for(url, serving), serving)
        stored, page = 0, ""
        while True:
            parameters = {"pageSize": 100, "pageToken": page}
            response = requests.get(notes, params=parameters, headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE).json()
            stored += len(response.get("notes", []))
            if not (page := response.get("nextPageToken")):
                break
        report.check("every acknowledged note is stored", stored, acknowledged + 1)


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], check=True)
        report.play(scenario, Path(folder))
        subprocess.run(["umount", "--lazy", folder], check=True)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main() if os.environ.get(IN_NAMESPACE) else enter_namespace())
