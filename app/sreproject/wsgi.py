"""Entry point for gunicorn: `sreproject.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sreproject.settings")

application = get_wsgi_application()
