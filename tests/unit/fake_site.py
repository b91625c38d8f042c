"""A site on loopback that has a form to vote with and answers votes as it is told."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Self
from uuid import uuid4

FORM = """<input type="hidden" name="csrfmiddlewaretoken" value="secret">
<input type="hidden" name="token" value="{token}">
<input type="radio" name="choice" id="choice1" value="1" required>
<input type="radio" name="choice" id="choice2" value="2" required>"""

# What to do with the n-th vote: seconds to wait, and the status to answer, or None to break the connection.
Plan = Callable[[int], tuple[float, int | None]]


class Site:
    """A site on loopback that answers votes by a plan and all else with a page."""

    def __init__(self, plan: Plan) -> None:
        """Take the plan."""
        self.plan = plan
        self.votes: list[dict[str, str]] = []
        # Who asked for what: method and path, X-Forwarded-For.
        self.requests: list[tuple[str, str]] = []
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while request := await self._request(reader):
                status, headers = 200, "Set-Cookie: csrftoken=cookie; Path=/\r\n"
                if request[0].startswith("POST"):
                    number = len(self.votes)
                    self.votes.append(dict(pair.split("=", 1) for pair in request[1].split("&")))
                    pause, answer = self.plan(number)
                    await asyncio.sleep(pause)
                    if answer is None:
                        return
                    status, headers = answer, f"Location: {request[0].split()[1].replace('vote', 'results')}\r\n"
                body = FORM.format(token=uuid4()) if re.match(r"GET /polls/[123]/ ", request[0]) else "ok"
                writer.write(f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._open.discard(task)

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, str] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if head.startswith("POST"):
            assert fields["cookie"] == "csrftoken=cookie"
        self.requests.append((head.split(" HTTP/")[0], fields.get("x-forwarded-for", "")))
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        return head.split("\r\n")[0], body.decode()
