"""Chooses ports on which a program that is started later can listen.

The system takes the local ports of outgoing connections from a range, and a port stays in use for a minute after such a connection was closed. A port
from that range can therefore be in use at any moment, although nothing listens on it.
"""

import random
import socket
import time
from pathlib import Path

# How long a closed connection keeps its port on Linux, in seconds.
TIME_WAIT = 60
FIRST_PORT = 10_000


def can_listen(port):
    """Returns True if a program could listen on the port now. `SO_REUSEADDR` is set, as the services do."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def become_free(ports):
    """Waits until a program can listen on all ports, at most twice as long as a closed connection keeps its port. Returns False if it cannot."""
    deadline = time.monotonic() + 2 * TIME_WAIT
    while not all(can_listen(port) for port in ports):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def free_port():
    """Returns a free port, as text, that no outgoing connection can get."""
    first_local_port = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(FIRST_PORT, max(first_local_port, FIRST_PORT + 1_000))
    return str(next(port for port in random.sample(ports, len(ports)) if can_listen(port)))
