"""Health, and the pages for when something is wrong."""

import sys

from django.db import Error, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.views import defaults
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
    for _attempt in range(2):  # the first may meet a connection that broke since its last use
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute("SHOW transaction_read_only")
                (read_only,) = cursor.fetchone()
        except Error:
            connections[alias].close()
        else:
            return "read-only" if read_only == "on" else "read-write"
    return "unreachable"


def unavailable(
    request: HttpRequest, template: str = "503.html", context: dict[str, object] | None = None
) -> HttpResponse:
    """Return the page for a database outage."""
    response = render(request, template, context, status=503)
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Return 503 when the database is the reason, wherever it was needed, and else 500."""
    if is_outage(sys.exc_info()[1]):
        return unavailable(request)
    return defaults.server_error(request)
