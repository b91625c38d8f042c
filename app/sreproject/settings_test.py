"""Settings for the tests and the type checker: cheap hashes, no collected static files."""

import os
from pathlib import Path

os.environ.setdefault("POLLS_CONFIG", str(Path(__file__).resolve().parents[1] / "tests" / "polls.toml"))

from sreproject.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
VOTE_DEADLINE_SECONDS = 5.0
