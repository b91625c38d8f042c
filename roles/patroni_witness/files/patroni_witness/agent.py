"""What HAProxy's agent checks are told: to leave a relieved primary, whatever that says of itself."""

from __future__ import annotations

import socketserver
import threading
import time

# HAProxy asks at least this often, in seconds.
ASKS = 1


class Agent:
    """Answers "down" for one member and "up" for all others, to whom asks on this host."""

    def __init__(self, port: int) -> None:
        """Listen on a port of 127.0.0.1, 0 for a free one."""
        self.avoided: str | None = None
        agent = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 1

            def handle(self) -> None:
                """Read a member's name, answer in a word."""
                name = self.rfile.readline(256).decode(errors="replace").strip()
                self.wfile.write(b"down\n" if name == agent.avoided else b"up\n")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Leave alone who asks and does not wait for the answer."""

        self.server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def avoid(self, name: str | None) -> None:
        """Say from now on that this member is down; None for nobody."""
        self.avoided = name

    def leave(self) -> None:
        """Stop answering, but not while somebody is down: for HAProxy that would last until it is told otherwise."""
        if self.avoided is not None:
            self.avoid(None)
            time.sleep(2 * ASKS)
        self.server.shutdown()
        self.server.server_close()
