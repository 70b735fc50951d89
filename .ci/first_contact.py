"""Follows README.md as somebody who has never seen the project: clones the repository into an empty folder, builds it, runs the commands literally, on
the ports that the page shows, and compares what they print.

`--quick` uses the program that was built instead of building the clone, and leaves out the tests. The program is started in the clone, with no variables
but PATH and HOME. The ports 50051 and 50052 must become free within two minutes, otherwise nothing is checked.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from blocks import blocks
from clients import ETAG, ROOT, TIME, UUID, Report
from ports import become_free

PORTS = [50051, 50052]
# The time for the first build, in seconds.
BUILD = 3600
USER = {"userId": UUID, "username": "bob", "email": "", "firstName": "", "lastName": "", "isActive": True, "isSuperuser": False}
USER |= {"createTime": TIME, "updateTime": TIME, "etag": ETAG}
NOTE = {"userId": UUID, "noteId": UUID, "title": "Hello", "body": "", "visibility": "VISIBILITY_PRIVATE", "createTime": TIME, "updateTime": TIME, "etag": ETAG}


def start(clone, environment, quick, report):
    """Runs `cargo run`, and returns the process when it has printed its greeting."""
    began = time.monotonic()
    command = [ROOT / "target/debug/quickstart"] if quick else ["cargo", "run"]
    process = subprocess.Popen(command, cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
    watchdog = threading.Timer(BUILD, process.kill)
    watchdog.start()
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("Ctrl-C"):
            break
    watchdog.cancel()
    print(f"        the services answer {time.monotonic() - began:.0f} s after the command")
    report.check("it prints the addresses", lines[:2], ["auth-service     127.0.0.1:50051", "profile-service  127.0.0.1:50052"])
    report.check("it prints the superuser and a password", [bool(re.fullmatch(r"(superuser +admin|password +\S+)", line)) for line in lines[2:4]], [True, True])
    report.check("it creates ./data", (clone / "data").is_dir(), True)
    return process, lines


def call(clone, environment, block, report):
    """Runs the commands of a block one by one in one shell, and compares what each prints."""
    commands = re.sub(r"\\\n\s*", "", block.text).splitlines()
    script = "\n".join(f"{command}\nprintf '\\n--\\n'" for command in commands)
    done = subprocess.run(["bash", "-c", script], cwd=clone, env=environment, capture_output=True, text=True, timeout=60)
    registered, _, who, note = (part.strip() for part in done.stdout.split("\n--\n")[:4])
    report.check("register", json.loads(registered), USER)
    report.check("who am I", json.loads(who)["user"], USER | {"lastLoginTime": TIME})
    report.check("write a note", json.loads(note), NOTE)


def greet(environment, lines, report):
    """Runs the grpcurl commands that the program prints."""
    commands = [line.strip() for line in lines if re.match(r"  (grpcurl|TOKEN=)", line)]
    script = "\n".join(f"{command}\nprintf '\\n--\\n'" for command in commands)
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    registered, _, who, note = (part.strip() for part in done.stdout.split("\n--\n")[:4])
    report.check("grpcurl: register", json.loads(registered)["username"], "alice")
    report.check("grpcurl: who am I", json.loads(who)["user"]["username"], "alice")
    report.check("grpcurl: write a note", json.loads(note)["title"], "Hello")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    quick, report = "--quick" in sys.argv[1:], Report()
    if not become_free(PORTS):
        print("first contact: NOT RUN: the ports 50051 and 50052 are not free\n0 passed, 0 failed")
        return 0
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="first-contact-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        # The page of the working tree, which may be newer than the last commit.
        shutil.copy(ROOT / "README.md", clone)
        shown = {block.text.split()[0]: block for block in blocks("README.md") if block.language == "sh"}
        report.check("README.md shows three commands", sorted(shown), ["TEST_POSTGRESQL=download", "cargo", "curl"])
        process, lines = start(clone, environment, quick, report)
        try:
            report.play(lambda report: call(clone, environment, shown["curl"], report))
            report.play(lambda report: greet(environment, lines, report))
        finally:
            os.killpg(process.pid, signal.SIGINT)
            report.check("Ctrl-C stops it", process.wait(60), 0)
        if not quick:
            done = subprocess.run(["bash", "-c", shown["TEST_POSTGRESQL=download"].text], cwd=clone, env=environment)
            report.check("the tests pass", done.returncode, 0)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
