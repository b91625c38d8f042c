"""Settings. What differs between deployments comes from the file that POLLS_CONFIG names."""

from typing import Any

from sreproject import config as _config

_conf = _config.load()

SECRET_KEY = _conf.secret_key
SECRET_KEY_FALLBACKS = [_conf.secret_key_former] if _conf.secret_key_former else []
DEBUG = False
# The health checks ask on the loopback, by address.
ALLOWED_HOSTS = [*_conf.allowed_hosts, "127.0.0.1"]
CSRF_TRUSTED_ORIGINS = _conf.csrf_trusted_origins
VOTE_DEADLINE_SECONDS = _conf.vote_deadline_seconds

ROOT_URLCONF = "sreproject.urls"
WSGI_APPLICATION = "sreproject.wsgi.application"
INSTALLED_APPS = [
    "polls",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "sreproject.middleware.content_security_policy",
    "sreproject.middleware.refuse_malformed",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def _database(alias: str) -> dict[str, Any]:
    """Turn one [databases.*] table into Django's terms."""
    database: _config.Database = _conf.databases[alias]
    options = {
        "application_name": "polls",
        "connect_timeout": database.connect_timeout,
        "hostaddr": database.hostaddr,
        # Anything that reaches the client beside a result is then a warning (see polls.voting).
        "options": "-c client_min_messages=warning",
        "sslmode": database.sslmode,
        "sslrootcert": database.sslrootcert,
    }
    return {
        "ENGINE": "sreproject.postgresql",
        "NAME": database.name,
        "USER": database.user,
        "PASSWORD": database.password,
        "HOST": database.host,
        "PORT": database.port,
        # Given back after each request; how long it is kept for others then is up to our backend.
        "CONN_MAX_AGE": 0,
        "IDLE_SECONDS": database.idle_seconds,
        "OPTIONS": {key: value for key, value in options.items() if value},
    }


DATABASES = {
    "default": _database("default"),
    # The test runner must not create a second database for it.
    "failover1": _database("failover1") | {"TEST": {"MIRROR": "default"}},
}
DATABASE_ROUTERS = ["sreproject.router.ModelDatabaseRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = _conf.static_root
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

# nginx ends TLS, redirects port 80 and overwrites this header.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SILENCED_SYSTEM_CHECKS = [
    # HSTS would bind every port of a name to HTTPS: for whoever owns the name to decide, in nginx.
    "security.W004",
    # The redirect to HTTPS is nginx's too; the health checks speak HTTP on the loopback.
    "security.W008",
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"expected": {"()": "sreproject.logs.ExpectedErrors"}},
    "formatters": {"line": {"()": "sreproject.logs.LineFormatter"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "filters": ["expected"],
            "formatter": "line",
        }
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Without Django's own handlers: they mail, and are silent on the console.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # nginx logs every 4xx already.
        "django.request": {"level": "ERROR"},
    },
}
