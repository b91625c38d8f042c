"""The pages, their security, and health."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from testkit import Server

from polls.models import Choice, Question, Vote

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

both = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])


@pytest.fixture
def browser(seeded: None) -> Client:
    """Return a client that checks CSRF, as a browser finds the site."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


def text(response: "Response") -> str:
    """Return a page's text without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


def hidden(response: "Response", name: str) -> str:
    """Return the value of a form's hidden field."""
    match = re.search(rf'name="{name}" value="([^"]+)"', response.content.decode())
    assert match is not None
    return match[1]


def cast(client: Client, **fields: str) -> "Response":
    """Open the form of question 1 and send it, with some fields changed."""
    form = client.get("/polls/1/", secure=True)
    names = ("token", "csrfmiddlewaretoken")
    data = {"choice": "1"} | {name: hidden(form, name) for name in names} | fields
    return client.post("/polls/1/vote/", data, secure=True, headers={"origin": "https://testserver"})


def test_the_way_through_the_pages(browser: Client) -> None:
    """From the root to a counted vote and back to the form."""
    assert browser.get("/", secure=True)["Location"] == "/polls/"
    index = text(browser.get("/polls/", secure=True))
    assert "What&#x27;s up 24 votes" in index
    assert "Are you facing any problems with the sre project? 36 votes" in index
    form = browser.get("/polls/1/", secure=True).content.decode()
    assert form.count('type="radio"') == 2
    assert ">Vote</button>" in form
    response = cast(browser)
    assert (response.status_code, response["Location"]) == (302, "/polls/1/results/")
    results = browser.get("/polls/1/results/", secure=True)
    assert "Nothing much working on the sre project 17 68 %" in text(results)
    assert '<a href="/polls/1/">Vote again?</a>' in results.content.decode()


def test_every_form_is_a_vote_of_its_own(browser: Client) -> None:
    """Voting again counts again; sending the same form twice does not."""
    token = str(uuid.uuid4())
    for sent in (token, token, str(uuid.uuid4())):
        assert cast(browser, token=sent).status_code == 302
    cast(browser)
    assert Choice.objects.get(pk=1).votes == 16 + 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"choice": ""}, "You didn&#x27;t select a choice."),
        ({"choice": "first"}, "You didn&#x27;t select a choice."),
        ({"choice": "3"}, "That choice does not exist."),
        ({"choice": "9" * 40}, "That choice does not exist."),
        ({"token": ""}, "The form was incomplete. Please vote again."),
        ({"token": "1234"}, "The form was incomplete. Please vote again."),
    ],
)
def test_an_invalid_vote_gets_the_form_again(browser: Client, fields: dict[str, str], message: str) -> None:
    """400, a message, a form that works, and no vote."""
    response = cast(browser, **fields)
    assert response.status_code == 400
    assert message in text(response)
    assert uuid.UUID(hidden(response, "token")).version == 4
    assert not Vote.objects.exists()


@pytest.mark.parametrize(
    "path", ["/polls/9/", "/polls/9/results/", "/polls/" + "9" * 30 + "/", "/polls/x/", "/nothing"]
)
def test_what_is_not_there_is_a_404_page(browser: Client, path: str) -> None:
    """With a way back."""
    response = browser.get(path, secure=True)
    assert response.status_code == 404
    assert "Page not found" in text(response)
    assert 'href="/polls/"' in response.content.decode()


@pytest.mark.parametrize("fields", [{"choice": "1"}, {"choice": "1", "token": str(uuid.uuid4())}])
@pytest.mark.usefixtures("seeded")
def test_a_vote_on_an_unknown_question_is_a_404(client: Client, fields: dict[str, str]) -> None:
    """Whatever else the vote says."""
    assert client.post("/polls/9/vote/", fields, secure=True).status_code == 404


def test_a_question_of_the_future_is_not_shown(browser: Client) -> None:
    """Published means published."""
    Question.objects.filter(pk=1).update(pub_date=timezone.now() + timedelta(days=1))
    assert "What&#x27;s up" not in text(browser.get("/polls/", secure=True))
    assert browser.get("/polls/1/", secure=True).status_code == 404


def test_a_vote_needs_the_csrf_token(browser: Client) -> None:
    """Another site cannot vote in a visitor's name; the page says what to do."""
    response = cast(browser, csrfmiddlewaretoken="x" * 64)
    assert response.status_code == 403
    assert "This form has expired" in text(response)


@pytest.mark.parametrize(("method", "path"), [("put", "/polls/1/vote/"), ("post", "/polls/"), ("post", "/healthz")])
def test_other_methods_are_refused(client: Client, method: str, path: str) -> None:
    """405, not an error."""
    assert getattr(client, method)(path, secure=True).status_code == 405


def test_the_address_of_a_vote_leads_to_its_form(client: Client) -> None:
    """Somebody may type it, or come back to it."""
    response = client.get("/polls/1/vote/", secure=True)
    assert (response.status_code, response["Location"]) == (302, "/polls/1/")


def test_an_unknown_host_is_a_400_page(client: Client) -> None:
    """Only the names in the configuration are served."""
    response = client.get("/polls/", secure=True, headers={"host": "elsewhere.example"})
    assert response.status_code == 400
    assert "Bad request" in text(response)


@pytest.mark.parametrize("path", ["/polls/1/vote/", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded; charset=utf-16"},
        {"content-type": "multipart/form-data; boundary=x; charset=zlib"},
        {"cookie": 'sessionid="\\000abcdefgh"'},
    ],
)
def test_a_malformed_request_is_a_400_page(browser: Client, path: str, headers: dict[str, str]) -> None:
    """Without a look into the form that cannot be read."""
    response = browser.post(path, b"choice=1", "application/x-www-form-urlencoded", secure=True, headers=headers)
    assert response.status_code == 400
    assert "Bad request" in text(response)


def test_a_fault_of_ours_is_a_500_page(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page, not a traceback."""
    monkeypatch.setattr("polls.views.Sum", None)
    response = browser.get("/polls/", secure=True)
    assert response.status_code == 500
    assert "Something went wrong" in text(response)
    assert "Traceback" not in response.content.decode()


def test_every_response_is_protected(browser: Client) -> None:
    """Headers and cookies as they should be behind TLS."""
    response = browser.get("/polls/1/", secure=True)
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert "no-store" in response["Cache-Control"]
    cookie = response.cookies["csrftoken"]
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")


def test_pages_need_no_script_and_no_inline_style(browser: Client) -> None:
    """The policy would block them, and nothing comes from elsewhere."""
    for path in ("/polls/", "/polls/1/", "/polls/1/results/", "/nothing"):
        page = browser.get(path, secure=True).content.decode()
        assert "<script" not in page
        assert "style=" not in page
        assert not re.findall(r'(?:src|href|action)="(?!/)[^"#]', page)


def test_texts_are_escaped(browser: Client) -> None:
    """A question is text, whatever it holds."""
    Question.objects.filter(pk=1).update(question_text="<b>up</b>")
    assert "&lt;b&gt;up&lt;/b&gt;" in browser.get("/polls/1/", secure=True).content.decode()


@pytest.mark.parametrize(("path", "queries"), [("", 1), ("1/", 2), ("1/results/", 2)])
def test_pages_are_cheap(
    browser: Client, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    """However many questions and choices there are."""
    with django_assert_num_queries(queries):
        browser.get(f"/polls/{path}", secure=True)


def test_healthz_needs_no_database(client: Client) -> None:
    """It is asked on the loopback by address; pytest-django refuses database access here."""
    response = client.get("/healthz", headers={"host": "127.0.0.1:8000"})
    assert (response.status_code, response.content) == (200, b"ok\n")


@both
def test_readyz_tells_what_answers(live: Server, client: Client) -> None:
    """200 only when a vote can be written."""

    def state() -> tuple[int, Any]:
        response = client.get("/readyz", headers={"host": "127.0.0.1:8000"})
        return response.status_code, response.json()

    writable = {"ready": True, "default": "read-write", "failover1": "read-write"}
    assert state() == (200, writable)
    with live.unreachable("default"):
        assert state() == (503, writable | {"ready": False, "default": "unreachable"})
    with live.unreachable("failover1"):
        assert state() == (200, writable | {"failover1": "unreachable"})
    with live.setting("default_transaction_read_only", "on"):
        read_only = {"ready": False, "default": "read-only", "failover1": "read-only"}
        assert state() == (503, read_only)
    assert state() == (200, writable)


@pytest.fixture
def admin(seeded: None) -> Client:
    """Return a client that is logged in to the admin."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def test_the_admin_edits_questions_and_keeps_tallies(admin: Client) -> None:
    """A tally is shown and cannot be sent."""
    url = "/admin/polls/question/1/change/"
    page = admin.get(url, secure=True)
    assert page.status_code == 200
    assert 'name="choice_set-0-votes"' not in page.content.decode()
    form = {
        "question_text": "How is it going?",
        "pub_date_0": "2026-01-01",
        "pub_date_1": "12:00:00",
        "choice_set-TOTAL_FORMS": "3",
        "choice_set-INITIAL_FORMS": "2",
        "choice_set-0-id": "1",
        "choice_set-0-question": "1",
        "choice_set-0-choice_text": "Well",
        "choice_set-0-votes": "1000",
        "choice_set-1-id": "2",
        "choice_set-1-question": "1",
        "choice_set-1-choice_text": "Yayyy. Done with the project",
        "choice_set-2-choice_text": "So so",
        "choice_set-2-question": "1",
    }
    assert admin.post(url, form, secure=True).status_code == 302
    rows = Choice.objects.filter(question=1).order_by("id").values_list("choice_text", "votes")
    assert list(rows) == [("Well", 16), ("Yayyy. Done with the project", 8), ("So so", 0)]
    call_command("check_ledger")


def test_the_admin_shows_the_ledger_and_changes_nothing(admin: Client) -> None:
    """Neither adding, nor changing, nor deleting, nor deleting what was voted for."""
    cast(admin)
    vote = Vote.objects.get()
    base = "/admin/polls/vote/"
    assert str(vote.token) in admin.get(base, secure=True).content.decode()
    assert admin.get(f"{base}{vote.token}/change/", secure=True).status_code == 200
    for page in ("add/", f"{vote.token}/delete/"):
        assert admin.get(base + page, secure=True).status_code == 403
    deletion = admin.post("/admin/polls/question/1/delete/", {"post": "yes"}, secure=True)
    assert deletion.status_code != 302
    assert Question.objects.filter(pk=1).exists()


@pytest.mark.django_db
def test_the_admin_pages_are_there(admin: Client) -> None:
    """Every page that needs a form or a list."""
    for page in ("", "polls/question/", "polls/question/add/", "auth/user/"):
        assert admin.get(f"/admin/{page}", secure=True).status_code == 200
