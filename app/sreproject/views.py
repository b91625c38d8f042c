"""Health, and the pages for when something is wrong."""

import sys
from collections.abc import Callable

from django.core.exceptions import FieldDoesNotExist
from django.db import Error, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from sreproject.outage import is_outage
from sreproject.router import PRIMARY, STANDBY

RETRY_AFTER_SECONDS = "5"


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> HttpResponse:
    """Tell that this process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """Tell whether a vote can be written now, and which of the databases answers."""
    states = {alias: _state(alias) for alias in (PRIMARY, STANDBY)}
    ready = states[PRIMARY] == "read-write"
    return JsonResponse({"ready": ready, **states}, status=200 if ready else 503)


def _state(alias: str) -> str:
    """Ask a database whether it takes writes, as PostgreSQL itself decides it."""
    state = "unreachable"
    for _attempt in range(2):  # the first may meet a session that broke, or that began under another default
        connection = connections[alias]
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('transaction_read_only')::boolean, pg_is_in_recovery()")
                read_only, standby = cursor.fetchone()
        except Error:
            connection.close()
            continue
        state = "read-only" if read_only else "read-write"
        if standby or not read_only:
            break
        # A primary that is to be read for a while says so to new sessions, and so it takes it back.
        connection.errors_occurred = True
        connection.close()
    return state


def unavailable(
    request: HttpRequest, template: str = "503.html", context: dict[str, object] | None = None
) -> HttpResponse:
    """Return the page for a database outage."""
    response = render(request, template, context, status=503)
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def error_page(status: int) -> Callable[..., HttpResponse]:
    """Return the view that answers with the page of a status.

    Django's own look into the form for a CSRF token, and so fail once more over a form that cannot be read.
    """

    def view(_request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - by this name
        return HttpResponse(render_to_string(f"{status}.html"), status=status)

    return view


def server_error(request: HttpRequest) -> HttpResponse:
    """Return 503 when the database is the reason, wherever it was needed, and else 500."""
    error = sys.exc_info()[1]
    if is_outage(error):
        return unavailable(request)
    # The admin looks up, unchecked, a field that the visitor names.
    return error_page(400 if isinstance(error, FieldDoesNotExist) else 500)(request)
