"""Executes the commands of the guides about backups, restores and upgrades, on SQLite and on PostgreSQL.

Both services run as separate processes, as the guide for deployment sets them up. The commands are the code blocks of the guides; every block must be
executed once on each engine to which it applies. Between the blocks, users sign in and write notes, and the test compares what a restore has kept.

The next version of auth-service is the same program on a schema with one migration more, which the test applies by hand. `--next PROGRAM` names a
real next version: `.ci/next_version` builds one with the migration `9001_test`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from blocks import Reader, blocks
from clients import PASSWORD, PATIENCE, ROOT, Report
from ports import free_port

BACKUP, UPGRADE, ROTATE = (f"docs/guides/{name}.md" for name in ("backup-and-restore", "upgrade", "rotate-keys"))
SETUP = "docs/guides/deploy.md"


class Deployment:
    """Both services on one engine, in a folder with the files of the guide for deployment."""

    def __init__(self, folder, engine, report):
        self.folder, self.engine, self.report = folder, engine, report
        self.reader, self.processes, self.programs, self.executed = Reader(folder), {}, {}, []
        if engine == "PostgreSQL":
            self.reader.start_postgres()
        # Everything of the guide up to the start of the services.
        setup = [block for block in blocks(SETUP) if block.heading == "Without Docker" and block.directive != "not run"]
        for block in setup:
            text = re.sub(r"^(auth-service|profile-service) serve .*|^until .*", "", block.text, flags=re.MULTILINE)
            self.must(self.for_engine(text))
        for name in ("auth", "profile"):
            self.start(name)

    def for_engine(self, text):
        """Returns a command of the guide for deployment for this engine. The guide itself is about PostgreSQL."""
        if self.engine == "SQLite":
            text = re.sub(r"database-url = .*/(\w+)\"\ndatabase-password-file = .*", r'database-url = "sqlite:data/\1.db"', text)
            text = re.sub(r"\n  sudo .*", "", text).replace("mkdir -m 700 secrets", "mkdir -m 700 secrets data")
        return text

    def must(self, text):
        status, output = self.reader.run(text)
        if status != 0:
            raise RuntimeError(f"{text}\n{output}")
        return output

    def execute(self, page, heading):
        """Executes the blocks of one section of a guide."""
        found = [block for block in blocks(page) if block.heading == heading]
        for block in found:
            status, output = self.reader.run(block.text)
            self.report.check(f"{self.engine}: {block}", status if status == 0 else f"{status}\n{output}", 0)
            self.executed.append((page, block.text))
        if not found:
            raise RuntimeError(f"{page} has no section {heading}")

    def address(self, name):
        return f"127.0.0.1:{self.reader.ports['50051' if name == 'auth' else '50052']}"

    def start(self, name, program=None, listen=None, wait=True):
        """Starts a replica, and returns when it is ready. It fetches the public keys every second instead of every minute."""
        program = program or ROOT / "target/debug" / f"{name}-service"
        address = listen or self.address(name)
        environment = os.environ | {"PGPORT": self.reader.ports["5432"], "PROFILE_KEY_INTERVAL": "1"}
        log = open(self.folder / f"{name}.log", "a+")
        command = [program, "serve", "--config", f"{name}.toml", "--listen", address]
        process = subprocess.Popen(command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stderr=log)
        self.processes[address] = process
        deadline = time.monotonic() + PATIENCE
        while wait:
            try:
                if requests.get(f"http://{address}/readyz", timeout=5).status_code == 200:
                    break
            except requests.ConnectionError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not become ready:\n{(self.folder / f'{name}.log').read_text()[-2000:]}")
        return process

    def stop(self, name, address=None):
        process = self.processes.pop(address or self.address(name))
        process.terminate()
        self.report.check(f"{self.engine}: {name} stops on SIGTERM", process.wait(PATIENCE), 0)

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.reader.close()

    # The calls of users.

    def post(self, name, path, body, token=None, address=None):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = requests.post(f"http://{address or self.address(name)}{path}", json=body, headers=headers, timeout=PATIENCE)
        return answer.status_code, answer.json()

    def register(self, username):
        status, _ = self.post("auth", "/v1/users:register", {"username": username, "password": PASSWORD})
        assert status == 200, status

    def log_in(self, username, address=None):
        status, answer = self.post("auth", "/v1/tokens:login", {"username": username, "password": PASSWORD}, address=address)
        return answer if status == 200 else status

    def refresh(self, token, address=None):
        status, answer = self.post("auth", "/v1/tokens:refresh", {"refreshToken": token}, address=address)
        return answer if status == 200 else status

    def write(self, token, title):
        return self.post("profile", "/v1/profiles/me/notes", {"title": title}, token)[0]

    def titles(self, token):
        answer = requests.get(f"http://{self.address('profile')}/v1/profiles/me/notes", headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE)
        return sorted(note["title"] for note in answer.json().get("notes", [])) if answer.status_code == 200 else answer.status_code

    def profiles(self):
        """Returns the usernames that profile-service knows."""
        sql = "SELECT username FROM profiles ORDER BY username"
        return self.query("profile", sql)

    def query(self, name, sql):
        if self.engine == "SQLite":
            command = f"sqlite3 data/{name}.db {json.dumps(sql)}"
        else:
            command = f"sudo -u postgres psql --no-align --tuples-only --dbname={name} --command={json.dumps(sql)}"
        return self.must(command).split()

    def eventually(self, step, actual, expected):
        """Polls until the value is the expected one."""
        deadline = time.monotonic() + PATIENCE
        while (found := actual()) != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        self.report.check(f"{self.engine}: {step}", found, expected)

    def check(self, step, actual, expected):
        self.report.check(f"{self.engine}: {step}", actual, expected)


def back_up_and_restore(on):
    """Restores auth-service alone, profile-service alone, and both."""
    back_up, restore = ("Back up", "Restore {}") if on.engine == "SQLite" else ("Back up PostgreSQL", "Restore {} on PostgreSQL")
    on.register("alice")
    kept = on.log_in("alice")
    on.check("a note before the backup", on.write(kept["accessToken"], "before"), 200)
    on.eventually("profile-service knows the users", on.profiles, ["admin", "alice"])
    on.execute(BACKUP, back_up)

    # These changes are in no backup.
    later = on.refresh(kept["refreshToken"])
    on.check("a note after the backup", on.write(later["accessToken"], "after"), 200)
    on.register("bob")
    bob = on.log_in("bob")
    on.check("a note of a user after the backup", on.write(bob["accessToken"], "lost"), 200)

    on.stop("profile")
    on.execute(BACKUP, restore.format("profile-service"))
    on.start("profile")
    on.check("profile-service alone: the notes are those of the backup", on.titles(on.log_in("alice")["accessToken"]), ["before"])
    on.eventually("profile-service alone: it applies the events since the backup", on.profiles, ["admin", "alice", "bob"])

    on.stop("auth")
    forget_old_database(on, "auth")
    on.execute(BACKUP, restore.format("auth-service"))
    on.start("auth")
    on.check("auth-service alone: a user who registered later is gone", on.log_in("bob"), 401)
    on.check("auth-service alone: a refresh token that was issued later is refused", on.refresh(later["refreshToken"]), 401)
    alice = on.log_in("alice")
    on.check("auth-service alone: the other users sign in", on.titles(alice["accessToken"]), ["before"])
    on.eventually("auth-service alone: profile-service follows it", on.profiles, ["admin", "alice"])
    on.check("auth-service alone: the refresh token of the backup works", type(on.refresh(kept["refreshToken"])), dict)

    on.register("carol")
    on.write(alice["accessToken"], "later")
    on.eventually("both: a user more", on.profiles, ["admin", "alice", "carol"])
    for name in ("auth", "profile"):
        on.stop(name)
        forget_old_database(on, name)
        on.execute(BACKUP, restore.format(f"{name}-service"))
    for name in ("auth", "profile"):
        on.start(name)
    on.check("both: the notes are those of the backup", on.titles(on.log_in("alice")["accessToken"]), ["before"])
    on.eventually("both: the users are those of the backup", on.profiles, ["admin", "alice"])


def forget_old_database(on, name):
    """Removes what an earlier restore has kept under another name."""
    if on.engine == "PostgreSQL":
        on.must(f"sudo -u postgres psql --quiet --command='DROP DATABASE IF EXISTS {name}_before'")


def withdraw_the_keys(on):
    """Executes the commands for the time after a restore. They end every session."""
    session = on.log_in("alice")
    on.execute(BACKUP, "After a restore")
    on.check("a session that the withdrawn keys have signed has ended", on.refresh(session["refreshToken"]), 401)
    # The running services read the keys that the commands have changed after a few seconds.
    checks = "auth-service check --config auth.toml\nprofile-service check --config profile.toml"
    on.eventually("`check` finds nothing wrong", lambda: on.reader.run(checks)[0], 0)
    on.check("users sign in with the new key", type(on.log_in("alice")), dict)


def rotate_the_master_key(on):
    """Encrypts the signing keys with another master key, and restores a backup from before."""
    session = on.log_in("alice")
    on.must("cp secrets/master-key secrets/old-master-key; openssl rand -base64 32 > secrets/new-master-key")
    on.must("auth-service keys rewrap --new-master-key-file secrets/new-master-key --config auth.toml; mv secrets/new-master-key secrets/master-key")
    on.stop("auth")
    on.start("auth")
    on.check("master key: a session goes on after the rotation", type(on.refresh(session["refreshToken"])), dict)
    on.must("auth-service check --config auth.toml")

    # The keys of the backup are encrypted with the old master key.
    on.stop("auth")
    forget_old_database(on, "auth")
    on.execute(BACKUP, "Restore auth-service" if on.engine == "SQLite" else "Restore auth-service on PostgreSQL")
    status, output = on.reader.run("auth-service check --config auth.toml")
    on.check("master key: `check` refuses a backup with another master key", (status, bool(re.search(r"encrypted keys +FAILED", output))), (1, True))
    on.must("cp secrets/old-master-key secrets/master-key")
    on.start("auth")
    on.check("master key: the old one opens the backup", type(on.log_in("alice")), dict)

    # Without any master key that fits, new keys replace those of the backup.
    on.stop("auth")
    on.must("openssl rand -base64 32 > secrets/master-key")
    on.query("auth", "DELETE FROM signing_keys")
    on.start("auth")
    on.check("master key: without it, auth-service makes new keys", type(on.log_in("alice")), dict)


class NextVersion:
    """The next version of auth-service, with the migration `9001_test`, on the address of a second replica."""

    UP, DOWN = "ALTER TABLE groups ADD COLUMN color TEXT NOT NULL DEFAULT ''", "ALTER TABLE groups DROP COLUMN color"

    def __init__(self, on, program):
        self.on, self.program, self.address = on, program, f"127.0.0.1:{free_port()}"
        self.record = "DELETE FROM _sqlx_migrations WHERE version = 9001"

    def migrate(self):
        if self.program:
            self.on.must(f"{self.program} migrate --config auth.toml")
            return
        checksum = "x'00'" if self.on.engine == "SQLite" else "'\\\\x00'"
        self.on.query("auth", self.UP)
        columns = "(version, description, success, checksum, execution_time)"
        self.on.query("auth", f"INSERT INTO _sqlx_migrations {columns} VALUES (9001, 'test', true, {checksum}, 0)")

    def start(self):
        """Starts a replica of the next version. Without a program of its own, this version is started on the schema of the next one."""
        if not self.program:
            self.on.query("auth", self.record)
        self.on.start("auth", self.program, self.address)

    def migrate_back(self):
        if self.program:
            self.on.must(f"{self.program} migrate 0011 --config auth.toml")
        else:
            self.on.query("auth", self.DOWN)


def upgrade(on, program):
    """Migrates while the previous version serves, lets both versions serve, and goes back to the previous version."""
    on.execute(UPGRADE, "Before")
    session, coming = on.log_in("alice"), NextVersion(on, program)
    coming.migrate()
    on.check("upgrade: the previous version signs users in after the migration", type(on.log_in("alice")), dict)
    status, output = on.reader.run("auth-service serve --config auth.toml --listen 127.0.0.1:0")
    refused = "which this version of the service does not have" in output
    on.check("upgrade: the previous version does not start any more", (status, refused), (1, True))
    # On SQLite, two processes on one file are for this test only.
    coming.start()
    session = on.refresh(session["refreshToken"], coming.address)
    on.check("upgrade: a session of the previous version goes on at the next one", type(session), dict)
    session = on.refresh(session["refreshToken"])
    on.check("upgrade: and back at the previous one, which still serves", type(session), dict)
    on.stop("auth")
    on.check("upgrade: the next version serves alone", type(on.log_in("alice", coming.address)), dict)
    on.stop("auth", coming.address)
    coming.migrate_back()
    on.start("auth")
    on.check("downgrade: the session goes on at the previous version", type(on.refresh(session["refreshToken"])), dict)

    on.execute(UPGRADE, "Upgrade")
    names = on.must("auth-service showmigrations --plan --config auth.toml").split()
    before = [name for name in names if re.match(r"\d{4}_", name)][-2]
    on.must(f"LAST={before}")
    on.stop("auth")
    on.execute(UPGRADE, "Downgrade")
    status, output = on.reader.run("auth-service serve --config auth.toml --listen 127.0.0.1:0")
    on.check("downgrade: this version refuses the older schema", (status, "run `migrate` first" in output), (1, True))
    on.must("auth-service migrate --config auth.toml")
    on.start("auth")
    on.check("downgrade, and up again: users and their passwords are kept", type(on.log_in("alice")), dict)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report, executed = Report(), {}
    program = Path(sys.argv[2]).resolve() if sys.argv[1:2] == ["--next"] else None
    for engine in ("SQLite", "PostgreSQL"):
        with tempfile.TemporaryDirectory(prefix="operations-") as folder:
            # The server user of PostgreSQL reads its files below this folder.
            Path(folder).chmod(0o755)
            on = Deployment(Path(folder), engine, report)
            try:
                for part in (back_up_and_restore, rotate_the_master_key, withdraw_the_keys):
                    report.play(lambda report, part=part: part(on))
                report.play(lambda report: upgrade(on, program))
            finally:
                executed[engine] = on.executed
                on.close()
    for page in (BACKUP, UPGRADE):
        everywhere = {text for found in executed.values() for of_page, text in found if of_page == page}
        missed = [str(block) for block in blocks(page) if block.text not in everywhere]
        report.check(f"every block of {page} was executed", missed, [])
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
