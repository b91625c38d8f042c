"""The one configuration file: read it, refuse what is wrong, name the key that is."""

import os
import tomllib
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Self

from django.core.exceptions import ImproperlyConfigured

HIGHEST_PORT = 65535
SHORTEST_SECRET_KEY = 50  # what Django's deployment check asks for
SHORTEST_CONNECT_TIMEOUT = 2  # libpq waits two seconds at least, whatever it is asked for
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Database:
    """How to reach one PostgreSQL entry point."""

    name: str
    user: str
    password: str
    host: str
    port: int
    hostaddr: str = ""
    sslmode: str = "prefer"
    sslrootcert: str = ""
    connect_timeout: int = 2
    idle_seconds: int = 0

    @classmethod
    def read(cls, table: object, where: str) -> Self:
        """Check one [databases.*] table."""
        database = cls(**_values(cls, table, where))
        if not 1 <= database.port <= HIGHEST_PORT:
            raise ImproperlyConfigured(f"{where}.port must be between 1 and {HIGHEST_PORT}")
        if database.sslmode not in SSL_MODES:
            raise ImproperlyConfigured(f"{where}.sslmode must be one of {', '.join(SSL_MODES)}")
        if database.sslmode.startswith("verify-") and not database.sslrootcert:
            raise ImproperlyConfigured(f"{where}.sslrootcert must be set for {database.sslmode}")
        if database.connect_timeout < SHORTEST_CONNECT_TIMEOUT:
            raise ImproperlyConfigured(f"{where}.connect_timeout must be at least {SHORTEST_CONNECT_TIMEOUT} seconds")
        if database.idle_seconds < 0:
            raise ImproperlyConfigured(f"{where}.idle_seconds must not be negative")
        return database


@dataclass(frozen=True)
class Config:
    """Everything that differs from one deployment to the next."""

    secret_key: str
    allowed_hosts: list[str]
    csrf_trusted_origins: list[str]
    static_root: str
    databases: dict[str, Any]
    secret_key_former: str = ""
    vote_deadline_seconds: float = 10

    @classmethod
    def read(cls, table: object, where: str) -> Self:
        """Check the whole file."""
        values = _values(cls, table, where)
        databases = values["databases"]
        if set(databases) != {"default", "failover1"}:
            raise ImproperlyConfigured(
                f"{where}.databases must hold exactly [databases.default] and [databases.failover1]"
            )
        values["databases"] = {
            alias: Database.read(database, f"{where}.databases.{alias}") for alias, database in databases.items()
        }
        config = cls(**values)
        if len(config.secret_key) < SHORTEST_SECRET_KEY:
            raise ImproperlyConfigured(f"{where}.secret_key must have at least {SHORTEST_SECRET_KEY} characters")
        if config.vote_deadline_seconds <= 0:
            raise ImproperlyConfigured(f"{where}.vote_deadline_seconds must be above 0")
        for origin in config.csrf_trusted_origins:
            if not origin.startswith(("https://", "http://")):
                raise ImproperlyConfigured(f"{where}.csrf_trusted_origins must begin with https://, not {origin!r}")
        return config


def load() -> Config:
    """Read the file that the environment variable POLLS_CONFIG names."""
    name = os.environ.get("POLLS_CONFIG")
    if not name:
        raise ImproperlyConfigured("POLLS_CONFIG must name the configuration file (TOML)")
    try:
        table = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ImproperlyConfigured(f"POLLS_CONFIG: {name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"POLLS_CONFIG: {name} is not TOML: {error}") from None
    return Config.read(table, name)


def _values(cls: type, table: object, where: str) -> dict[str, Any]:
    """Return the keyword arguments for a dataclass, each present and of its type."""
    if not isinstance(table, dict):
        raise ImproperlyConfigured(f"{where} must be a table")
    known = {field.name: field for field in fields(cls)}
    if unknown := sorted(set(table) - set(known)):
        raise ImproperlyConfigured(f"{where} has unknown keys: {', '.join(unknown)}")
    missing = [name for name, field in known.items() if _required(field) and name not in table]
    if missing:
        raise ImproperlyConfigured(f"{where} lacks: {', '.join(missing)}")
    for name, value in table.items():
        _check_type(known[name], value, f"{where}.{name}")
    return table


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING


def _check_type(field: Field[Any], value: object, where: str) -> None:
    """Refuse a value of another type, and an empty one where a value is required."""
    if field.type is float:
        right, wanted = type(value) in (int, float), "a number"
    elif field.type is int:
        right, wanted = type(value) is int, "a whole number"
    elif field.type is str:
        right = isinstance(value, str) and bool(value or not _required(field))
        wanted = "a string that is not empty" if _required(field) else "a string"
    elif field.type == list[str]:
        right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        wanted = "a list of strings"
    else:
        right, wanted = isinstance(value, dict), "a table"
    if not right:
        raise ImproperlyConfigured(f"{where} must be {wanted}")
