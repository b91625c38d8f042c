"""Connections to the databases that one end has left."""

from __future__ import annotations

import subprocess

from tests.acceptance import lab

APP = lab.group("app")[0]
# HAProxy waits five seconds for the other end.
CLOSED_SECONDS = 15

# Asks PostgreSQL for TLS, and once told leaves, as an application does whose patience has ended.
CLIENT = f"""
import socket
with socket.create_connection(("127.0.0.1", 5000), timeout={CLOSED_SECONDS}) as connection:
    connection.sendall(bytes.fromhex("0000000804d2162f"))
    print(connection.recv(1), flush=True)
    input()
    connection.shutdown(socket.SHUT_WR)
    print(connection.recv(1), flush=True)
"""


def test_a_server_that_does_not_notice_keeps_no_place() -> None:
    """Its connection ends where the client has closed its end, so that another one may be made in its place."""
    command = ["docker", "exec", "--interactive", f"{lab.NAME}-{APP}", "python3", "-c", CLIENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "b'S'\n"
        on_primary = lab.on(lab.primary())
        postmaster = on_primary.check_output("pgrep --oldest --exact --euid postgres postgres")
        backend = on_primary.check_output(f"pgrep --newest --parent {postmaster}")
        on_primary.check_output(f"kill -STOP {backend}")
        try:
            output, _ = client.communicate("\n", timeout=2 * CLOSED_SECONDS)
        finally:
            on_primary.check_output(f"kill -CONT {backend}")
    assert (client.returncode, output) == (0, "b''\n")
