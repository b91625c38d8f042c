"""Single votes as a browser casts them, streams, and what answers mean."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from chaoslab.cli import main
from chaoslab.voter import FAIL, INFO, OK, Answer, Sent, Stream, client, error_outcome, read, read_outcome, vote_outcome
from tests.unit.fake_server import serve
from tests.unit.fake_site import Site


def test_vote_prints_the_token_of_each_form(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """As the site got them, one after the other, taking turns with the choices."""
    assert main(["vote", "--url", site.url, "--count", "3"]) == 0
    assert json.loads(capsys.readouterr().out) == [vote["token"] for vote in site.votes]
    assert [vote["choice"] for vote in site.votes] == ["1", "2", "1"]
    assert len({vote["token"] for vote in site.votes}) == 3


def test_vote_that_is_not_confirmed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Not among the tokens; exit code 1 and why. Without a form it is 2."""
    with Site(lambda number: (0.0, (302, 503, 302)[number])) as site:
        assert main(["vote", "--url", site.url, "--count", "3"]) == 1
    first, second, third = (vote["token"] for vote in site.votes)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [first, third]
    assert printed.err == f"vote: {second} was not confirmed: answered 503\n"
    assert main(["vote", "--url", site.url]) == 2
    assert f"vote: {site.url}/polls/1/: " in capsys.readouterr().err


def test_authorities_are_those_that_the_file_has_now(tmp_path: Path) -> None:
    """While the site's authority rotates: both servers, then the second alone, with the client of before."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    trusted = tmp_path / "ca.crt"

    async def asked(urls: list[str], files: list[Path]) -> list[list[str]]:
        outcomes = []
        trusted.write_bytes(files[0].read_bytes())
        async with client("https://127.0.0.1", trusted) as browser:
            for content in (files[:1], files, files[1:]):
                renewed = tmp_path / "ca.crt.new"
                renewed.write_bytes(b"".join(file.read_bytes() for file in content))
                renewed.replace(trusted)
                found = []
                for url in urls:
                    browser.base_url = httpx.URL(url)
                    found.append((await read(browser)).outcome)
                outcomes.append(found)
        return outcomes

    with (
        serve(folders[0], lambda _: (200, b""), client_certificate=False) as one,
        serve(folders[1], lambda _: (200, b""), client_certificate=False) as two,
    ):
        found = asyncio.run(asked([one.url, two.url], [one.certificate, two.certificate]))
    assert found == [[OK, FAIL], [OK, OK], [FAIL, OK]]


def stream_ended(end: Callable[[Stream], None], answer_seconds: float) -> list[Sent]:
    """Run a stream of 100 requests/s, end it after 0.2 s, and return what it noted."""
    noted: list[Sent] = []

    async def send(number: int) -> Answer:
        await asyncio.sleep(answer_seconds)
        return Answer(200 + number, OK)

    async def run() -> None:
        stream = Stream(send, 100, noted.append)
        asyncio.get_running_loop().call_later(0.2, end, stream)
        await stream.run()

    asyncio.run(run())
    return sorted(noted, key=lambda one: one.number)


def test_stopped_stream_waits_for_its_answers() -> None:
    """Each is noted with when it was due, sent and answered."""
    noted = stream_ended(Stream.stop, 0.5)
    assert 10 <= len(noted) <= 50
    assert [(one.number, one.answer) for one in noted] == [(n, Answer(200 + n, OK)) for n in range(len(noted))]
    assert [one.intended for one in noted] == pytest.approx([n / 100 for n in range(len(noted))])
    assert all(one.intended <= one.sent <= one.done - 0.49 for one in noted)


def test_abandoned_stream_does_not() -> None:
    """Nobody knows what became of those requests."""
    noted = stream_ended(Stream.abandon, 60)
    assert {one.answer.outcome for one in noted} == {INFO}
    assert max(one.done for one in noted) < 30


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("connections", "outcomes"),
    [
        ([[ANSWER, ANSWER]], [(OK, 0), (OK, 0)]),
        ([[ANSWER, b""], [ANSWER]], [(OK, 0), (OK, 1)]),
        ([[ANSWER, b""], [b""]], [(OK, 0), (INFO, 1)]),
        ([[b""]], [(INFO, 0)]),
        ([[ANSWER, ANSWER[:-1]]], [(OK, 0), (INFO, 0)]),
    ],
    ids=["kept", "kept one breaks", "new one breaks, too", "first one breaks", "breaks in the answer"],
)
def test_request_is_sent_again_where_a_kept_connection_breaks(
    connections: list[list[bytes]], outcomes: list[tuple[str, int]]
) -> None:
    """Until a new one is tried, and never after an answer has begun. Each connection gives these answers."""
    opened = iter(connections)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in next(opened):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async def ask() -> list[tuple[str, int]]:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with client(f"http://127.0.0.1:{port}", None) as browser:
                answers = [await read(browser) for _ in outcomes]
        return [(answer.outcome, answer.resent) for answer in answers]

    assert asyncio.run(ask()) == outcomes
    assert not list(opened)


def test_those_who_wait_do_not_make_the_next_request_dearer() -> None:
    """Counted in calls of Python's functions, while a site answers nobody."""
    seen: Counter[str] = Counter()

    def see(_frame: object, event: str, _argument: object) -> None:
        seen[event] += 1

    async def ask(url: str, counts: list[int]) -> list[int]:
        calls = []
        waiting: list[asyncio.Task[Answer]] = []
        async with client(url, None) as browser:
            for count in counts:
                seen.clear()
                sys.setprofile(see)
                for _ in range(count):
                    waiting.append(asyncio.create_task(read(browser)))
                    await asyncio.sleep(0.01)
                sys.setprofile(None)
                calls.append(seen["call"] // count)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        return calls

    # The kernel takes connections for it, and it none of them.
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        few, _, many = asyncio.run(ask(f"http://127.0.0.1:{server.getsockname()[1]}", [20, 200, 20]))
    assert many < 1.5 * few


@pytest.mark.parametrize(
    ("status", "location", "outcome"),
    [
        (302, "/polls/1/results/", "ok"),
        (302, "/polls/2/results/", "info"),
        (302, "/login/", "info"),
        (200, "", "info"),
        (400, "", "fail"),
        (403, "", "fail"),
        (404, "", "fail"),
        (500, "", "info"),
        (502, "", "info"),
        (503, "", "info"),
        (504, "", "info"),
    ],
)
def test_meaning_of_answers(status: int, location: str, outcome: str) -> None:
    """Only the redirect to the results is a confirmation."""
    vote = httpx.Request("POST", "https://192.0.2.11/polls/1/vote/")
    response = httpx.Response(status, headers={"location": location}, request=vote)
    assert vote_outcome(response).outcome == outcome
    assert read_outcome(response).outcome == ("ok" if status == 200 else "fail")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("refused"), "fail"),
        (httpx.ConnectTimeout(""), "fail"),
        (httpx.ReadTimeout(""), "info"),
        (httpx.WriteError(""), "info"),
        (httpx.ReadError(""), "info"),
        (httpx.RemoteProtocolError("disconnected"), "info"),
    ],
)
def test_meaning_of_errors(error: Exception, outcome: str) -> None:
    """Without a connection nothing was sent."""
    assert error_outcome(error).outcome == outcome
