"""Executes the code blocks of README.md, the tutorials, the guides and some other pages, as a reader would.

The `sh` blocks of a page run one after another in one shell, in a temporary folder in which `proto`, `examples` and `deploy` are links into the
repository. A page needs the quickstart unless it starts services itself. Ports and programs are replaced by free ports and by the programs that
were built. An HTML comment before a block changes what is done with it:

- `<!-- prints: TEXT -->`: the block must print the text.
- `<!-- fails with: TEXT -->`: the block must fail, and print the text.
- `<!-- not run: REASON -->`: the block is not executed.

Python and TypeScript blocks that follow "Save this as `FILE`" are files that a later `sh` block must use; another Python block is executed. `rust`,
`proto` and `go` blocks must show lines of a file in the repository, which CI compiles. A block in another language of LANGUAGES is an error.

`python3 .ci/blocks.py PAGE...` executes only some pages.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from clients import ROOT, Quickstart, Report
from ports import free_port
from postgres import Postgres, programs

# .ci/operations.py executes these pages, on both engines.
ELSEWHERE = {"docs/guides/backup-and-restore.md", "docs/guides/upgrade.md"}
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for name in ("tutorial", "guides") for path in (ROOT / "docs" / name).glob("*.md"))]
PAGES += ["docs/architecture/README.md", "docs/reference/http-api.md", "docs/reference/oauth.md", "examples/README.md"]
# These languages are executed or compared. Others, such as text and toml, are not code that a reader runs.
LANGUAGES = {"sh", "python", "ts", "rust", "proto", "go", "bash", "shell", "console", "js", "javascript", "typescript", "py"}
# The files whose lines pages show.
SOURCES = [
    *("examples/greeter/proto/greeter/v1/greeter.proto", "examples/greeter/build.rs", "examples/greeter/src/lib.rs", "examples/greeter/src/main.rs"),
    *("shared/server/src/stack.rs", "examples/go/verify/main.go", "shared/access/src/token/service_token.rs"),
    "shared/access/src/events/revocation_consumer.rs",
]
# The recipes of CI that a page may name as commands.
RECIPES = {"TEST_POSTGRESQL=download cargo test --workspace"}
# The programs on the path of the reader.
PROGRAMS = ["auth-service", "profile-service"]
STARTS_QUICKSTART = r"cargo run( -- .*)?"
STARTS_SERVICE = r"^(auth-service|profile-service) serve\b"
# The longest time for one block, in seconds. It only ends a block that would not end by itself.
PATIENCE = 120
END = "-- end of block, status"

# `cargo run` starts the program that was built. curl fails for a response such as 400. Commands as the user postgres reach the temporary server.
FUNCTIONS = f"""
set -o pipefail
cargo() {{
    [ "$1 $2" = "run -p" ] || {{ echo "cargo $* is not known here" >&2; return 1; }}
    local program=$3; shift 3; [ "${{1:-}}" != -- ] || shift; CARGO_MANIFEST_DIR="{ROOT}/$program" "{ROOT}/target/debug/$program" "$@"
}}
curl() {{ command curl --fail-with-body "$@"; }}
sudo() {{ shift 2; PGHOST=$SUPERUSER_HOST PGUSER=postgres "$@"; }}
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "CI")}
# A rotation waits until every verifier has the new key: five minutes by default.
ENVIRONMENT |= {"JWKS_MAX_AGE": "1", "PYTHONUNBUFFERED": "1"}


@dataclass
class Block:
    page: str
    heading: str
    language: str
    text: str
    file: str | None
    directive: str | None
    argument: str

    def __str__(self):
        return f"{self.page}: {self.heading}: {self.text.splitlines()[0][:60]}"


def blocks(page):
    """Returns the code blocks of a page in the languages that readers run."""
    pattern = r"^#+ ([^\n]+)$|(?:^ *<!-- (not run|fails with|prints): ([^\n]*) -->\n)?^( *)```(\w*)\n(.*?)^\4```$"
    heading, found, end, text = "start", [], 0, (ROOT / page).read_text()
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        else:
            code = "\n".join(line.removeprefix(match[4]) for line in match[6].splitlines())
            named = re.search(r"Save this as `([\w.]+)`:\n\s*$", text[end : match.start()])
            if match[5] in LANGUAGES:
                found.append(Block(page, heading, match[5], code, named and named[1], match[2], match[3] or ""))
        end = match.end()
    return found


class Reader:
    """Follows one page: keeps the servers that it starts, and a shell with the variables that it sets."""

    def __init__(self, folder, environment=None):
        self.folder, self.quickstart, self.postgres = folder, None, None
        self.ports = {port: free_port() for port in ("50051", "50052", "50053", "5432")}
        (folder / "home").mkdir()
        variables = ENVIRONMENT | {"HOME": str(folder / "home"), "PGPORT": self.ports["5432"]} | (environment or {})
        if any((ROOT / "target/ci-venv/bin").glob("python3")):
            variables["PATH"] = f"{ROOT}/target/ci-venv/bin:{variables['PATH']}"
        variables["PATH"] = f"{folder}/bin:{variables['PATH']}"
        self.shell = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True, env=variables
        )
        for name in ("proto", "examples", "deploy"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "bin").mkdir()
        for program in PROGRAMS:
            (folder / "bin" / program).symlink_to(ROOT / "target/debug" / program)
        self.run(FUNCTIONS)

    def start_quickstart(self, flags):
        self.quickstart = Quickstart(self.folder, *flags)
        for port, address in (("50051", self.quickstart.auth), ("50052", self.quickstart.profile)):
            self.ports[port] = address.rsplit(":", 1)[1]
        self.run(f"PASSWORD={shlex.quote(self.quickstart.said['password'])}")

    def start_postgres(self):
        self.postgres = Postgres(self.ports["5432"])
        self.run(f"SUPERUSER_HOST={self.postgres.folder}; PATH={programs()}:$PATH")

    def replace(self, text):
        return re.sub(r"(?<=:)5005[123]\b", lambda port: self.ports[port[0]], text)

    def save(self, block):
        (self.folder / block.file).write_text(self.replace(block.text) + "\n")

    def run(self, command):
        """Runs a block in the shell of the page, and returns its status and output. It fails if any of its commands fails."""
        self.shell.stdin.write(f"failed=0; trap 'failed=1' ERR\n{self.replace(command)}\ntrap - ERR\necho; echo '{END}' $failed\n")
        self.shell.stdin.flush()
        watchdog = threading.Timer(PATIENCE, self.kill)
        watchdog.start()
        output = ""
        for line in self.shell.stdout:
            if line.startswith(END):
                watchdog.cancel()
                return int(line.removeprefix(END)), output
            output += line
        watchdog.cancel()
        return "the shell has ended", output

    def kill(self):
        os.killpg(self.shell.pid, signal.SIGKILL)

    def close(self):
        try:
            os.killpg(self.shell.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        self.shell.stdin.close()
        if self.quickstart:
            self.quickstart.__exit__()
        if self.postgres:
            self.postgres.stop()


def shows_source(text):
    """Returns true if the lines are in one file of SOURCES, in this order, without regard to indentation and blank lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for source in SOURCES:
        if (ROOT / source).exists():
            # An example in rustdoc is compiled too.
            known = iter([line.strip().removeprefix("/// ") for line in (ROOT / source).read_text().splitlines()])
            if all(line in known for line in lines):
                return True
    return False


def execute(block, reader, later, report):
    """Executes or compares one block."""
    language = {"py": "python", "typescript": "ts"}.get(block.language, block.language)
    if language in ("rust", "proto", "go"):
        report.check(f"{block} (shown from a source)", shows_source(block.text), True)
    elif block.file:
        reader.save(block)
        report.check(f"{block} (saved)", any(block.file.rsplit(".", 1)[0] in other.text for other in later if other.language == "sh"), True)
    elif language == "python":
        done = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True, timeout=PATIENCE)
        report.check(block, done.stderr if done.returncode else 0, 0)
    elif language != "sh":
        report.check(f"{block}: nothing executes {language}", False, True)
    elif block.text in RECIPES:
        report.check(f"{block} (a recipe of CI)", block.text in (ROOT / "justfile").read_text(), True)
    elif re.fullmatch(STARTS_QUICKSTART, block.text):
        reader.start_quickstart(shlex.split(block.text)[3:])
        report.check(block, reader.quickstart.process.poll(), None)
    elif block.text.startswith("cargo run -p greeter -- "):
        _, output = reader.run(f"{block.text} &\nuntil (: < /dev/tcp/127.0.0.1/{reader.ports['50053']}) 2>&-; do sleep 0.1; done")
        report.check(block, "error" in output.lower(), False)
    elif block.directive == "fails with":
        status, output = reader.run(block.text)
        report.check(f"{block} (fails)", True if status == 1 and block.argument in output else f"{status}\n{output}", True)
    elif block.directive == "prints":
        status, output = reader.run(block.text)
        report.check(f"{block} (prints {block.argument})", True if status == 0 and block.argument in output else f"{status}\n{output}", True)
    else:
        status, output = reader.run(block.text)
        report.check(block, status if status == 0 else f"{status}\n{output}", 0)


def follow(page, counts, report):
    listed = blocks(page)
    with tempfile.TemporaryDirectory(prefix="blocks-") as folder:
        reader = Reader(Path(folder))
        try:
            commands = [block.text for block in listed if block.language == "sh" and block.directive != "not run"]
            if any("postgres" in command for command in commands):
                reader.start_postgres()
            # A page that starts no service of its own expects that the reader has a quickstart.
            starts = any(re.fullmatch(STARTS_QUICKSTART, command) or re.search(STARTS_SERVICE, command, re.MULTILINE) for command in commands)
            if commands and not starts:
                reader.start_quickstart([])
            for index, block in enumerate(listed):
                if block.directive == "not run":
                    counts["not run"] += 1
                    report.check(f"{block} (not run: {block.argument})", len(block.argument) > 10, True)
                else:
                    counts[block.language] = counts.get(block.language, 0) + 1
                    execute(block, reader, listed[index + 1 :], report)
        finally:
            reader.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report, counts = Report(), {"not run": 0}
    pages = sys.argv[1:] or [page for page in PAGES if page not in ELSEWHERE]
    for page in pages:
        report.play(lambda report, page=page: follow(page, counts, report))
    print(f"blocks of {len(pages)} pages: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
