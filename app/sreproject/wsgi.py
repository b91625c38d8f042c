"""Entry point for gunicorn: `sreproject.wsgi:application`."""

import os
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sreproject.settings")


def read_request(environ: dict[str, Any]) -> WSGIRequest:
    """Return the request; a content type that cannot be read is none. Django would fail before it can answer."""
    try:
        return WSGIRequest(environ.copy())  # which it changes
    except (LookupError, ValueError):
        return WSGIRequest(environ | {"CONTENT_TYPE": ""})


application = get_wsgi_application()
application.request_class = read_request  # type: ignore[assignment] # any callable does
