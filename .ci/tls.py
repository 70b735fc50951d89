"""Calls auth-service over TLS with curl, grpcurl and Python, replaces its certificate under load, and shows wrong certificates to both sides.

The certificates are those of deploy/make-certificates.
"""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clients import PATIENCE, ROOT, Report

BINARY = ROOT / "target/debug/auth-service"
HEALTH = "grpc.health.v1.Health/Check"


class Service:
    """An auth-service that listens with TLS on a free port."""

    def __init__(self, folder, certificates, *arguments):
        database = ["--database-url", f"sqlite:{folder}/auth.db"]
        environment = os.environ | {"MASTER_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
        subprocess.run([BINARY, "migrate", *database], check=True, capture_output=True, env=environment)
        tls = ["--tls-cert", certificates / "server.pem", "--tls-key", certificates / "server-key.pem"]
        command = [BINARY, "serve", *database, "--listen", "127.0.0.1:0", *tls, *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines, self.changed = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        serving = self.wait_for("serving")
        self.address = next(part for part in serving.split() if part.startswith("address=")).removeprefix("address=")

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def wait_for(self, text):
        """Returns the first log line that contains the text, and forgets the lines before it."""
        with self.changed:
            found = self.changed.wait_for(lambda: next((line for line in self.lines if text in line), None), PATIENCE)
            if not found:
                raise RuntimeError(f"no log line contains {text!r}: {self.lines}")
            del self.lines[: self.lines.index(found) + 1]
            return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def make(folder, **environment):
    subprocess.run([ROOT / "deploy/make-certificates", folder], check=True, capture_output=True, env=os.environ | environment)
    return folder


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def curl(service, certificates, *arguments):
    return run("curl", "--silent", "--show-error", "--cacert", certificates / "ca.pem", *arguments, f"https://{service.address}/livez")


def grpcurl(service, certificates, *arguments):
    return run("grpcurl", "-cacert", certificates / "ca.pem", *arguments, service.address, HEALTH)


def python(service, certificates, identity=None):
    """Checks the health with grpcio, and returns the status or the name of the error."""
    key, chain = ((identity / f"client{end}.pem").read_bytes() for end in ("-key", "")) if identity else (None, None)
    credentials = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes(), key, chain)
    with grpc.secure_channel(service.address, credentials) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE, wait_for_ready=False)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.RpcError as error:
            return error.code().name


def without_client_certificates(report, folder, certificates, other):
    with Service(folder, certificates) as service:
        for version in ("--http1.1", "--http2"):
            for tls in ("1.2", "1.3"):
                step = f"curl {version} TLS {tls}"
                report.check(step, curl(service, certificates, version, f"--tlsv{tls}", "--tls-max", tls)[:2], (0, "ok"))
        report.check("grpcurl", '"status": "SERVING"' in grpcurl(service, certificates)[1], True)
        report.check("Python", python(service, certificates), "SERVING")
        health = run(BINARY, "health", "--address", service.address, "--ca", certificates / "ca.pem")
        report.check("auth-service health --ca", health[0], 0)
        report.check("curl with another authority: code", curl(service, other)[0], 60)
        report.check("curl with another authority: log", "UnknownCA" in service.wait_for("a TLS handshake failed"), True)
        report.check("Python with another authority", python(service, other), "UNAVAILABLE")
        plain = run("curl", "--silent", "--show-error", f"http://{service.address}/livez")
        report.check("curl without TLS", plain[0] != 0 and plain[1] == "", True)
        replace_under_load(report, service, certificates)


def replace_under_load(report, service, certificates):
    """Replaces the certificate while 4 threads call on new and on open connections."""
    stop, results, errors = threading.Event(), [], []

    def call():
        credentials = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes())
        held = grpc.secure_channel(service.address, credentials)
        while not stop.is_set():
            try:
                health_pb2_grpc.HealthStub(held).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
                results.append(python(service, certificates))
            except grpc.RpcError as error:
                errors.append(error.code().name)
        held.close()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        make(certificates)
        service.wait_for("the TLS certificates were read again")
    (certificates / "server-key.pem").write_text("nothing")
    refused = service.wait_for("the TLS certificates are not replaced")
    report.check("a wrong key is named", "server-key.pem contains no valid private key" in refused, True)
    stop.set()
    for thread in threads:
        thread.join()
    report.check("calls during three replacements", (set(results), errors), ({"SERVING"}, []))
    make(certificates)
    service.wait_for("the TLS certificates were read again")


def with_client_certificates(report, folder, certificates, other):
    arguments = ["--tls-client-ca", certificates / "ca.pem"]
    identity = ["--cert", certificates / "client.pem", "--key", certificates / "client-key.pem"]
    foreign = ["--cert", other / "client.pem", "--key", other / "client-key.pem"]
    with Service(folder, certificates, *arguments) as service:
        report.check("required: curl with a certificate", curl(service, certificates, *identity)[:2], (0, "ok"))
        report.check("required: curl without one", curl(service, certificates)[0] != 0, True)
        report.check("required: log", "peer sent no certificates" in service.wait_for("a TLS handshake failed"), True)
        report.check("required: curl with a foreign one", curl(service, certificates, *foreign)[0] != 0, True)
        grpc_identity = ["-cert", certificates / "client.pem", "-key", certificates / "client-key.pem"]
        report.check("required: grpcurl", '"status": "SERVING"' in grpcurl(service, certificates, *grpc_identity)[1], True)
        report.check("required: Python", python(service, certificates, certificates), "SERVING")
        report.check("required: Python without one", python(service, certificates), "UNAVAILABLE")
    with Service(folder, certificates, *arguments, "--tls-client-auth", "optional") as service:
        report.check("optional: curl without a certificate", curl(service, certificates)[:2], (0, "ok"))
        report.check("optional: curl with a foreign one", curl(service, certificates, *foreign)[0] != 0, True)


def with_an_expired_certificate(report, folder, certificates):
    make(certificates, DAYS="-1")
    with Service(folder, certificates) as service:
        code, _, error = curl(service, certificates)
        report.check("curl with an expired certificate of the server", (code, "expired" in error), (60, True))


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        certificates, other = make(folder / "tls"), make(folder / "other")
        without_client_certificates(report, folder, certificates, other)
        with_client_certificates(report, folder, certificates, other)
        with_an_expired_certificate(report, folder, certificates)
    print(f"\n{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
