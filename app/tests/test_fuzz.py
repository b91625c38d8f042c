"""Whatever a client sends, it is answered, and never with an error of ours."""

from encodings.aliases import aliases
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlencode
from wsgiref.util import setup_testing_defaults

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from testkit import Server

from sreproject.wsgi import application

Environ = dict[str, str]

ADMIN = [
    f"{model}/{page}" for model in ("polls/question", "polls/vote", "auth/user") for page in ("", "add/", "1/change/")
]
PAGES = [
    *(
        "/",
        "/polls/",
        "/polls/1/",
        "/polls/1/results/",
        "/polls/1/vote/",
        "/polls/9/vote/",
        "/healthz",
        "/readyz",
        "/nothing",
    ),
    *("/admin/", "/admin/login/", "/admin/password_change/", "/admin/jsi18n/", "/admin/polls/question/1/delete/"),
    *(f"/admin/{page}" for page in ADMIN),
]
FIELDS = [
    *(
        "choice",
        "token",
        "next",
        "username",
        "password",
        "question_text",
        "pub_date_0",
        "pub_date_1",
        "choice_set-0-id",
    ),
    *(
        "choice_set-TOTAL_FORMS",
        "choice_set-INITIAL_FORMS",
        "action",
        "_selected_action",
        "post",
        "q",
        "p",
        "o",
        "e",
        "all",
    ),
    *("_popup", "_to_field", "_changelist_filters", "pub_date__gte", "pub_date__year", "choice__question__id__exact"),
]
HEADERS = [
    "HTTP_HOST",
    "HTTP_ORIGIN",
    "HTTP_REFERER",
    "HTTP_X_CSRFTOKEN",
    "HTTP_X_FORWARDED_PROTO",
    "CONTENT_TYPE",
    "HTTP_COOKIE",
]
CODECS = sorted({*aliases, *aliases.values(), "undefined"})

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
# What the server before the application lets through.
HEADER = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40)
VALUE = st.sampled_from(["", "1", "\0", "9" * 40]) | TEXT
FORM = st.dictionaries(st.sampled_from(FIELDS) | TEXT, VALUE, max_size=5)
PAGE = st.sampled_from(PAGES)
COOKIE = st.builds(
    '{}="{}"'.format,
    st.sampled_from(["csrftoken", "sessionid", "messages"]),
    st.binary(min_size=8, max_size=12).map(lambda value: "".join(f"\\{byte:03o}" for byte in value)) | HEADER,
)
CONTENT_TYPE = st.builds(
    "{}; boundary={}; {}{}".format,
    st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]),
    st.just("x") | HEADER,
    st.sampled_from(["charset=", "charset*=''", "charset*=utf-8''%00", "other*="]),
    st.sampled_from(CODECS) | HEADER,
)
ODD = st.one_of(
    st.just({}),
    st.builds(lambda value: {"CONTENT_TYPE": value}, CONTENT_TYPE),
    st.builds(lambda value: {"HTTP_COOKIE": value}, COOKIE),
    st.dictionaries(st.sampled_from(HEADERS), HEADER, min_size=1, max_size=2),
)


def parts(form: Environ) -> bytes:
    """Return a form as a body of several parts."""
    fields = (f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{form[name]}\r\n' for name in form)
    return f"{''.join(fields)}--x--\r\n".encode()


@pytest.fixture
def administrator(live: Server) -> Environ:
    """Return the headers of an administrator's browser, which may send any form."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    token = "a" * 32
    return {
        "HTTP_HOST": "testserver",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_ORIGIN": "https://testserver",
        "HTTP_COOKIE": f"sessionid={client.cookies['sessionid'].value}; csrftoken={token}",
        "HTTP_X_CSRFTOKEN": token,
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
    }


@pytest.mark.django_db(transaction=True, databases=["default", "failover1"])
@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    method=st.sampled_from(["GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]),
    target=st.builds("{}{}?{}".format, PAGE, st.just("") | st.just("") | TEXT, FORM.map(urlencode) | TEXT.map(quote)),
    odd=ODD,
    body=FORM.map(urlencode).map(str.encode) | FORM.map(parts) | st.binary(max_size=60),
)
@example("GET", "/admin/polls/question/1/change/?_to_field=", {}, b"")
@example("POST", "/polls/1/vote/", {}, b"a=1&" * 2000)
@example("POST", "/polls/1/vote/", {}, b"a" * 3_000_000)
@example("GET", "/admin/?" + "a=1&" * 2000, {"HTTP_REFERER": "https://" + "[" * 8000}, b"")
def test_no_request_is_an_error_of_ours(
    administrator: Environ, method: str, target: str, odd: Environ, body: bytes
) -> None:
    """Every page, each method, with odd forms, headers, cookies and query strings."""
    path, _, query = target.encode().decode("latin-1").partition("?")
    line = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body))}
    environ: dict[str, Any] = {"wsgi.input": BytesIO(body)} | administrator | line | odd
    setup_testing_defaults(environ)
    with transaction.atomic():
        response = application.get_response(application.request_class(environ))
        transaction.set_rollback(True)
    assert response.status_code < 500
