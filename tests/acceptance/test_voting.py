"""Votes as a browser casts them, and the two programs that take turns serving them."""

from __future__ import annotations

import re
import time
from functools import partial
from urllib.parse import urljoin

import httpx
import pytest

from chaoslab.voter import Form
from tests.acceptance import lab, load

APP = lab.group("app")[0]
UPSTREAM_LOG = "/var/log/nginx/upstream.log"
ACCESS_LOG = "/var/log/nginx/access.log"


def lines_since(path: str, begin: int) -> list[str]:
    """Return the lines of a log on the app host from a line number on."""
    text: str = lab.on(APP).check_output(f"tail -n +{begin + 1} {path}")
    return text.splitlines()


def length(path: str) -> int:
    """Return the number of lines of a log on the app host."""
    return int(lab.on(APP).check_output(f"wc --lines < {path}"))


def is_open(port: int) -> bool:
    """Say whether something listens on a loopback port of the app host."""
    listening: str = lab.on(APP).check_output("ss -Htln")
    return f"127.0.0.1:{port} " in listening


def test_vote_lands_on_every_database(browser: httpx.Client) -> None:
    """A vote is answered with a redirect to the results and is then in all databases."""
    form = Form.read(browser.get(lab.url("/polls/1/")))
    answer = browser.send(form.request(browser, form.token, form.choices[0]))
    assert (answer.status_code, answer.headers["Location"]) == (302, "/polls/1/results/")
    assert browser.get(lab.url("/polls/1/results/")).status_code == 200
    for host in lab.group("postgres"):
        lab.wait_until(f"the vote on {host}", partial(lab.has_vote, host, form.token), 5)
    lab.wait_until("the same choices in every database", lab.same_everywhere, 5)


def test_vote_sent_twice_counts_once(browser: httpx.Client) -> None:
    """The same form sent again is acknowledged again and not counted again."""
    form = Form.read(browser.get(lab.url("/polls/3/")))
    before = lab.choices(lab.primary())
    answers = [browser.send(form.request(browser, form.token, form.choices[0])) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    after = lab.choices(lab.primary())
    changed = set(after.splitlines()) - set(before.splitlines())
    assert len(changed) == 1
    lab.assert_explained(lab.primary())


@pytest.mark.parametrize("path", ["/", "/polls/", "/polls/1/results/?a=b"])
def test_http_redirects_to_https(browser: httpx.Client, path: str) -> None:
    """Plain HTTP answers nothing but where to go."""
    answer = browser.get(lab.url(path).replace("https://", "http://"))
    assert (answer.status_code, answer.headers["Location"]) == (301, lab.url(path))


def test_certificate_is_verified_by_name_and_address() -> None:
    """The certificate is good for the host's address and signed by nobody but the site's CA."""
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(lab.url("/healthz"))


def test_health_pages(browser: httpx.Client) -> None:
    """The process and its way to the database are both well."""
    assert browser.get(lab.url("/healthz")).text.strip() == "ok"
    assert browser.get(lab.url("/readyz")).status_code == 200


def test_both_programs_take_turns(browser: httpx.Client) -> None:
    """Of many requests, each of the two gets half, as nginx's own log says."""
    begin = length(UPSTREAM_LOG)
    for _ in range(40):
        assert browser.get(lab.url("/polls/")).status_code == 200
    found = lines_since(UPSTREAM_LOG, begin)
    ports = [re.findall(r" to: 127\.0\.0\.1:(\d+) \[GET /polls/ HTTP/1\.1\]", line) for line in found]
    assert sorted({port for (port,) in ports}) == ["8000", "8001"]
    assert len(ports) == 40
    assert abs(ports.count(["8000"]) - ports.count(["8001"])) <= 4


def test_upstream_log_has_the_format_of_the_reference(browser: httpx.Client) -> None:
    """The fields that dashboards read are there."""
    begin = length(UPSTREAM_LOG)
    browser.get(lab.url("/polls/"))
    (line,) = lines_since(UPSTREAM_LOG, begin)
    number = r"\d+\.\d{3}"
    server = r"127\.0\.0\.1:800[01] \[GET /polls/ HTTP/1\.1\]"
    times = rf"upstream_response_time {number} msec {number} request_time {number}"
    assert re.fullmatch(rf"\S+ to: {server} {times}", line)


def test_static_files_come_from_disk(browser: httpx.Client) -> None:
    """The style sheet that the page names is served, for long, and without asking gunicorn."""
    page = browser.get(lab.url("/polls/"))
    (path,) = re.findall(r'<link rel="stylesheet" href="(/static/[^"]+)"', page.text)
    begin = length(UPSTREAM_LOG)
    style = browser.get(urljoin(lab.url(), path))
    assert style.status_code == 200
    assert style.headers["Content-Type"].startswith("text/css")
    assert "immutable" in style.headers["Cache-Control"]
    assert lines_since(UPSTREAM_LOG, begin) == []


def test_favicon_is_neither_missing_nor_logged(browser: httpx.Client) -> None:
    """A browser's question for the icon leaves no trace."""
    begin = length(ACCESS_LOG)
    assert browser.get(lab.url("/favicon.ico")).status_code in {200, 204}
    assert browser.get(lab.url("/polls/")).status_code == 200
    found = lines_since(ACCESS_LOG, begin)
    assert any("/polls/" in line for line in found)
    assert not any("favicon" in line for line in found)


def test_access_log_has_the_combined_format(browser: httpx.Client) -> None:
    """What Filebeat's nginx module parses: address, time, request, status, bytes, referrer, agent."""
    begin = length(ACCESS_LOG)
    browser.get(lab.url("/polls/"))
    (line,) = lines_since(ACCESS_LOG, begin)
    assert re.fullmatch(r'\S+ - - \[[^]]+\] "GET /polls/ HTTP/1\.1" 200 \d+ "-" "python-httpx/[^"]+"', line)


@pytest.mark.parametrize("port", [8000, 8001])
def test_killing_a_gunicorn_loses_no_request(port: int) -> None:
    """One of the two is killed with -9 while people vote and read: nobody notices, and it comes back."""
    program = f"gunicorn-{port}"
    old = lab.on(APP).check_output(f"supervisorctl pid {program}")
    with load.votes() as votes, load.reads() as reads:
        time.sleep(2)
        lab.on(APP).check_output(f"kill -9 {old}")
        lab.wait_until(
            f"{program} runs again",
            lambda: "RUNNING" in lab.on(APP).run(f"supervisorctl status {program}").stdout,
            20,
        )
        time.sleep(2)
    assert lab.on(APP).check_output(f"supervisorctl pid {program}") != old
    assert votes.failed() == []
    assert reads.failed() == []
    assert votes.confirmed() <= lab.ledger(lab.primary())


def test_rolling_restart_loses_no_request() -> None:
    """Both are restarted in turn, each when the other is ready, while people vote and read."""
    with load.votes() as votes, load.reads() as reads:
        time.sleep(1)
        for port in (8000, 8001):
            lab.on(APP).check_output(f"supervisorctl restart gunicorn-{port}")
            lab.wait_until(f"port {port} is open", partial(is_open, port), 20)
        time.sleep(1)
    assert votes.failed() == []
    assert reads.failed() == []
