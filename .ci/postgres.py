"""A PostgreSQL server for one test, with the installed programs, in a temporary folder and on a free port of 127.0.0.1."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def programs():
    """Returns the folder of the programs of PostgreSQL. Debian keeps the server's apart from those of the clients."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name.split(".")[0]))
    return found[-1] if found else Path(shutil.which("initdb")).resolve().parent


class Postgres:
    """The server. Its superuser `postgres` connects without a password, and roles need their password over TCP."""

    def __init__(self, port):
        self.port = port
        # initdb refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
        self.folder.chmod(0o755)
        options = ["-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self.run("initdb", "-D", self.folder / "data", *options)
        access = self.folder / "data/pg_hba.conf"
        access.write_text("host all postgres 127.0.0.1/32 trust\n" + access.read_text())
        settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=200"
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", settings, "start")

    def run(self, program, *arguments):
        command = [programs() / program, *arguments]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **self.user)

    def stop(self):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)
