"""Which database a query goes to."""

from contextvars import ContextVar

from django.db.models import Model

PRIMARY = "default"
STANDBY = "failover1"

# Set while a page is being read (see sreproject.reads); each request has its own value.
read_alias: ContextVar[str] = ContextVar("read_alias", default=PRIMARY)


class ModelDatabaseRouter:
    """Write to the primary, always; read from there too unless it is away."""

    def db_for_read(self, _model: type[Model], **_hints: object) -> str:
        """Return the database that the current request reads from."""
        return read_alias.get()

    def db_for_write(self, _model: type[Model], **_hints: object) -> str:
        """Return the primary: a standby cannot be written to."""
        return PRIMARY

    def allow_relation(self, _first: Model, _second: Model, **_hints: object) -> bool:
        """Allow every relation: both aliases show the same data."""
        return True

    def allow_migrate(self, db: str, _app_label: str, **_hints: object) -> bool:
        """Migrate the primary only; replication carries the result to the standby."""
        return db == PRIMARY
