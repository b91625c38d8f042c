"""Connections that one end has left."""

from __future__ import annotations

import json
import subprocess

import pytest

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


# Renews a lease, over and over and on several connections, as Patroni does, and counts the answers.
RENEW = """
import collections, http.client, json, ssl, sys, threading, time
context = ssl.create_default_context(cafile="/etc/ssl/site/ca.crt")
context.load_cert_chain("/etc/ssl/site/host.crt", "/etc/ssl/site/host.key")
seen = collections.Counter()
end = time.monotonic() + 6
def renew():
    connection = http.client.HTTPSConnection(sys.argv[1], 2379, context=context, timeout=3)
    while time.monotonic() < end:
        try:
            connection.request("POST", "/v3/lease/keepalive", '{"ID": 1}')
            answer = connection.getresponse()
            answer.read()
            seen[answer.status] += 1
        except (OSError, http.client.HTTPException):
            connection.close()
            seen[0] += 1
            time.sleep(0.02)
threads = [threading.Thread(target=renew) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(seen))
"""


@pytest.mark.usefixtures("whole_cluster")
def test_a_voter_that_is_restarted_gives_no_wrong_answer() -> None:
    """It answers or it does not; by an error in between a primary's Patroni would take its lease for lost."""
    primary = lab.primary()
    for _ in range(3):
        command = ["docker", "exec", f"{lab.NAME}-{primary}", "python3", "-c", RENEW, lab.address(APP)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            lab.wait_until(
                "a request", lambda: lab.address(APP) in lab.on(primary).check_output("ss -Htn dport = 2379"), 5
            )
            lab.on(APP).check_output("systemctl restart etcd")
            output, _ = client.communicate(timeout=30)
        assert json.loads(output).keys() == {"0", "200"}
