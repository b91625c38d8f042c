"""The client of all modules that call an API, against real TLS servers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.unit import fake_server
from tests.unit.load import load

https_api = load("plugins/module_utils/https_api.py")


def echo(request: fake_server.Request) -> fake_server.Answer:
    """Answer with what was asked."""
    known = {"method": request.method, "path": request.path, "body": request.body.decode()}
    return 200, json.dumps({**known, "authorization": request.headers.get("authorization")}).encode()


def test_calls(tmp_path: Path) -> None:
    """A path is added to that of the URL; the headers of one call win over those of all."""
    with fake_server.serve(tmp_path, echo, client_certificate=True) as server:
        api = https_api.Api(f"{server.url}/base/", server.files, headers=https_api.basic("u", "p"))
        wanted = {"method": "GET", "path": "/base/x", "body": "", "authorization": "Basic dTpw"}
        assert api.call("GET", "/x") == wanted
        found = api.call("PUT", "/x", {}, https_api.bearer("t"))
        assert found == {**wanted, "method": "PUT", "body": "{}", "authorization": "Bearer t"}
        assert server.requests[1].headers["content-type"] == "application/json"


def test_no_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the environment names one: it has no business with the site's own calls."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with fake_server.serve(tmp_path, echo, client_certificate=True) as server:
        assert https_api.Api(server.url, server.files).call("GET", "/")["path"] == "/"


def test_only_https() -> None:
    """Refused before a file is read or a password is sent."""
    with pytest.raises(https_api.ApiError, match=r"^http://x must start with https://"):
        https_api.Api("http://x", {"ca_file": "/none"})


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """The option is named, as whoever set it knows it."""
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
    certificate, key = map(str, fake_server.make_certificate(own))
    _, wrong_key = map(str, fake_server.make_certificate(other))
    for files, words in (
        ({"ca_file": "/none"}, r"^x_dir /none cannot be used: .*No such file"),
        ({"ca_file": key}, r"^x_dir .*host\.key cannot be used: "),
        (
            {"ca_file": certificate, "cert_file": certificate, "key_file": wrong_key},
            r"^x_dir .*own/host\.crt with x_dir .*other/host\.key cannot be used: .*mismatch",
        ),
    ):
        with pytest.raises(https_api.ApiError, match=words):
            https_api.Api("https://127.0.0.1:9", files, where="x_dir")


def test_which_side_turns_a_certificate_down(tmp_path: Path) -> None:
    """The server's by us, ours by the server, or none of ours where it wants one."""
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
    foreign, foreign_key = map(str, fake_server.make_certificate(other))
    with fake_server.serve(own, echo, client_certificate=True) as server:
        for files, words in (
            (
                {**server.files, "ca_file": foreign},
                rf"^the certificate of {server.url} is refused \(.+\) by ca_file {foreign}$",
            ),
            (
                {**server.files, "cert_file": foreign, "key_file": foreign_key},
                rf"^{server.url} refuses our certificate, cert_file {foreign} \(expired, or .*ALERT",
            ),
            (
                {"ca_file": server.files["ca_file"]},
                rf"^{server.url} refuses our certificate, of which there is none \(.*CERTIFICATE_REQUIRED",
            ),
        ):
            with pytest.raises(https_api.ApiError, match=words) as caught:
                https_api.Api(server.url, files).call("GET", "/")
            assert caught.value.tls
            assert not caught.value.status
        assert server.requests == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, b'{"error": "etcdserver: no", "code": 3, "message": "etcdserver: no"}', "400 etcdserver: no"),
        (403, b'{"error": {"type": "x", "reason": "not for\\n you"}, "status": 403}', "403 not for you"),
        (503, b'{"statusCode": 503, "error": "Unavailable", "message": "wait"}', "503 wait"),
        (302, b"", "302 no reason given"),
        (500, b"two\nlines " + b"x" * 1000, "500 two lines x{290}"),
        (200, b"<html>", "the answer is no JSON object"),
    ],
)
def test_a_refusal_says_which_call_and_why(tmp_path: Path, status: int, body: bytes, words: str) -> None:
    """In one line, in the words of each of the servers, without the password."""
    with fake_server.serve(tmp_path, lambda _: (status, body), client_certificate=False) as server:
        api = https_api.Api(server.url, server.files, headers=https_api.basic("user", "secret"))
        with pytest.raises(https_api.ApiError) as caught:
            api.call("PUT", "/a?b=c", {"password": "secret"})
    assert re.fullmatch(rf"PUT {server.url}/a\?b=c: {words}", str(caught.value))
    assert caught.value.status == (status if status != 200 else 0)
    assert caught.value.body == (body if status != 200 else b"")
