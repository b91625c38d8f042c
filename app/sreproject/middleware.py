"""Middleware of the project."""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse

# Scripts are the admin's; the polls pages have none.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

GetResponse = Callable[[HttpRequest], HttpResponse]


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Send the Content-Security-Policy with every response."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return middleware


def refuse_malformed(get_response: GetResponse) -> GetResponse:
    """Refuse what no browser sends: another charset than UTF-8, and a NUL in a cookie.

    Django would read the query and the form by any of Python's codecs, and ask the database for the session.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        if (request.encoding or "utf-8").lower() != "utf-8" or any("\0" in value for value in request.COOKIES.values()):
            raise BadRequest("malformed request")
        return get_response(request)

    return middleware
