"""Runs the commands that README.md and other pages show, as a reader would: block by block, in one shell for each page.

The shell is in a temporary folder, where `data` is the folder of a quickstart, and `proto` and `examples` are links into the repository. A block that
starts a server runs in the background on a free port; the addresses in the other blocks are replaced with the real ones. Blocks of TESTED_ELSEWHERE
are recipes of CI. Every other `sh` block must succeed.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clients import PATIENCE, ROOT, Quickstart, Report

PAGES = [
    "README.md",
    "docs/tutorial/README.md",
    "docs/reference/http-api.md",
    "docs/guides/protect-a-service.md",
    "docs/guides/refused-calls.md",
    "docs/guides/rotate-keys.md",
    "docs/guides/migrate-a-schema.md",
]
STARTS_QUICKSTART = r"cargo run( -- .*)?"
TESTED_ELSEWHERE = {"TEST_POSTGRESQL=download cargo test --workspace"}
# A rotation waits until every verifier has the new key: five minutes by default.
ENVIRONMENT = os.environ | {"JWKS_MAX_AGE": "1"}
# Cargo runs in the repository, and curl fails for a response such as 400.
FUNCTIONS = f"""
cargo() {{ command cargo "$1" --quiet --manifest-path {shlex.quote(str(ROOT))}/Cargo.toml "${{@:2}}"; }}
curl() {{ command curl --fail-with-body "$@"; }}
"""
# The end of every block, so that the output of the next one can be told apart.
END = "-- end of block, status"


def blocks(page):
    """Yields the `sh` blocks of a page, with the heading above each."""
    heading = "start"
    for found in re.finditer(r"^#+ ([^\n]+)$|^```sh\n(.*?)^```$|^```.*?^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        if found[1]:
            heading = found[1]
        elif found[2]:
            yield heading, found[2].strip()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Reader:
    """Follows one page: keeps the servers that it starts, and a shell with the variables that it sets."""

    def __init__(self, page, folder, report):
        self.page, self.folder, self.report = page, folder, report
        self.addresses, self.quickstart, self.servers = {}, None, []
        self.shell = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True,
            env=ENVIRONMENT,
        )
        for name in ("proto", "examples"):
            (folder / name).symlink_to(ROOT / name)

    def follow(self):
        listed = list(blocks(self.page))
        self.run(FUNCTIONS)
        # A page that starts no server of its own expects that the reader has one.
        if not any(re.fullmatch(STARTS_QUICKSTART, command) for _, command in listed):
            self.start_quickstart([])
        for heading, command in listed:
            step = f"{self.page}: {heading}: {command.splitlines()[0][:60]}"
            if command in TESTED_ELSEWHERE:
                self.report.check(f"{step} (a recipe of CI)", command in (ROOT / "justfile").read_text(), True)
            elif re.fullmatch(STARTS_QUICKSTART, command):
                self.start_quickstart(shlex.split(command)[3:])
                self.report.check(step, self.quickstart.process.poll(), None)
            elif command.startswith("cargo run -p greeter -- "):
                self.start_greeter(shlex.split(command)[5:])
                self.report.check(step, self.servers[-1].poll(), None)
            else:
                status, output = self.run(command)
                self.report.check(step, status if status == 0 else f"{status}\n{output}", 0)

    def start_quickstart(self, flags):
        self.quickstart = Quickstart(self.folder, *flags)
        self.addresses |= {"127.0.0.1:50051": self.quickstart.auth, "127.0.0.1:50052": self.quickstart.profile}
        self.run(f"PASSWORD={shlex.quote(self.quickstart.said['password'])}")

    def start_greeter(self, arguments):
        self.addresses["127.0.0.1:50053"] = address = f"127.0.0.1:{free_port()}"
        command = [ROOT / "target/debug/greeter", *map(self.replace, arguments)]
        self.servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", int(address.rsplit(":", 1)[1]))) == 0:
                    return

    def replace(self, text):
        for shown, real in self.addresses.items():
            text = text.replace(shown, real)
        return text

    def run(self, command):
        """Runs a block in the shell of the page. It fails if any of its commands fails."""
        lines = f"set -o pipefail; failed=0; trap 'failed=1' ERR\n{self.replace(command)}\ntrap - ERR\necho; echo '{END}' $failed\n"
        self.shell.stdin.write(lines)
        self.shell.stdin.flush()
        output = ""
        for line in self.shell.stdout:
            if line.startswith(END):
                return int(line.removeprefix(END)), output
            output += line
        return 1, output

    def close(self):
        self.shell.stdin.close()
        os.killpg(self.shell.pid, signal.SIGTERM)
        for server in self.servers:
            server.kill()
            server.wait()
        if self.quickstart:
            self.quickstart.__exit__()


def follow(page, report):
    with tempfile.TemporaryDirectory(prefix="readme-") as folder:
        reader = Reader(page, Path(folder), report)
        try:
            reader.follow()
        finally:
            reader.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    for page in PAGES:
        report.play(lambda report, page=page: follow(page, report))
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
