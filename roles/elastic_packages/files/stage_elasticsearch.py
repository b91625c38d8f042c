#!/usr/bin/env python3
"""Lay out the files of a Debian package of Elasticsearch, from the distribution that its publisher gives to Maven.

The paths are those of the publisher's own Debian package, which Maven's repositories do not have.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

FETCHER = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
HOME = "/usr/share/elasticsearch"
CONFIGURATION = "/etc/elasticsearch"
SOURCE = Path(__file__).resolve().parent / "elasticsearch"

# Programs for other systems than Linux.
FOREIGN = re.compile(r"\.(bat|exe)$|/platform/(darwin|windows)-")
PROGRAM = re.compile(r"^bin/(?!.*\.jar$)|/platform/[^/]+/bin/")


@dataclass(frozen=True)
class Distribution:
    """An archive that its publisher gives to Maven."""

    artifact: str
    sha256: str
    # What its members say, and what they must say where configuration, data and logs have folders of their own.
    changes: dict[str, tuple[tuple[str, str], ...]]

    @property
    def version(self) -> str:
        """Its version, which the artifact's coordinates have."""
        return self.artifact.split(":")[2]


DISTRIBUTION = Distribution(
    "org.elasticsearch.distribution.zip:elasticsearch:6.8.23:zip",
    "490e9b9fbab9ffb3499938c45850318bd6554d439497842450b60ef22c114fb6",
    {
        "bin/elasticsearch-env": (
            (
                "# now set the path to java\n",
                # The service has its environment already.
                'if [ -z "$ES_PATH_CONF" ]; then set -a; source /etc/default/elasticsearch; set +a; fi\n# now java\n',
            ),
            ("ES_DISTRIBUTION_TYPE=zip", "ES_DISTRIBUTION_TYPE=deb"),
        ),
        "config/elasticsearch.yml": (
            ("#path.data: /path/to/data", "path.data: /var/lib/elasticsearch"),
            ("#path.logs: /path/to/logs", "path.logs: /var/log/elasticsearch"),
        ),
        "config/jvm.options": (
            ("-XX:HeapDumpPath=data", "-XX:HeapDumpPath=/var/lib/elasticsearch"),
            ("-XX:ErrorFile=logs/", "-XX:ErrorFile=/var/log/elasticsearch/"),
            ("8:-Xloggc:logs/", "8:-Xloggc:/var/log/elasticsearch/"),
            (":file=logs/gc.log:", ":file=/var/log/elasticsearch/gc.log:"),
        ),
    },
)


class BuildError(Exception):
    """The package cannot be made; the text says why."""


def changed(distribution: Distribution, name: str, content: bytes) -> bytes:
    """Return ``content`` of the archive's member ``name`` with the paths of the package.

    Raises:
        BuildError: the text to replace is not there exactly once.
    """
    changes = distribution.changes.get(name, ())
    text = content.decode() if changes else ""
    for old, new in changes:
        if text.count(old) != 1:
            raise BuildError(f"{name} has {text.count(old)} times '{old.strip()}' instead of once")
        text = text.replace(old, new)
    return text.encode() if changes else content


def place(name: str) -> tuple[str, int] | None:
    """Return path and mode in the package of the archive's member ``name``; None where it does not belong there."""
    if FOREIGN.search(name) or name == "LICENSE.txt":
        return None
    if name.startswith("config/"):
        return f"{CONFIGURATION}/{name.removeprefix('config/')}", 0o640
    return f"{HOME}/{name}", 0o755 if PROGRAM.search(name) else 0o644


def check(distribution: Distribution, archive: Path) -> None:
    """Raise BuildError unless the file ``archive`` has the checksum of the distribution."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != distribution.sha256:
        raise BuildError(
            f"{archive.name} has sha256 {found} instead of {distribution.sha256}: "
            "it is not what its publisher published"
        )


def fetch(distribution: Distribution, folder: Path) -> Path:
    """Let Maven fetch the archive into ``folder``, and return it; its local repository stays in ``folder`` as well.

    Raises:
        subprocess.CalledProcessError: Maven failed and has said why.
    """
    subprocess.run(
        [
            "mvn",
            "--batch-mode",
            "--quiet",
            f"-Dmaven.repo.local={folder / 'repository'}",
            FETCHER,
            f"-Dartifact={distribution.artifact}",
            f"-DoutputDirectory={folder}",
        ],
        cwd=folder,
        check=True,
    )
    return folder / f"elasticsearch-{distribution.version}.zip"


def put(tree: Path, path: str, content: bytes | str, mode: int = 0o644) -> None:
    """Put a file into the package's ``tree`` at the absolute ``path``."""
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)
    target.chmod(mode)


def stage(distribution: Distribution, archive: Path, tree: Path) -> None:
    """Put the content of ``archive`` and our own files into ``tree``.

    Raises:
        BuildError: a file of the archive does not have the text that has to be changed.
    """
    licence = ""
    with zipfile.ZipFile(archive) as members:
        for info in members.infolist():
            name = info.filename.partition("/")[2]
            if info.is_dir():
                continue
            if name == "LICENSE.txt":
                licence = members.read(info).decode()
            if target := place(name):
                put(tree, target[0], changed(distribution, name, members.read(info)), target[1])
    for folder in (f"{HOME}/plugins", "/var/lib/elasticsearch", "/var/log/elasticsearch"):
        (tree / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    put(tree, "/etc/default/elasticsearch", (SOURCE / "default").read_text("utf-8"))
    put(tree, "/lib/systemd/system/elasticsearch.service", (SOURCE / "elasticsearch.service").read_text("utf-8"))
    put(tree, "/usr/share/doc/elasticsearch/copyright", (SOURCE / "copyright").read_text("utf-8") + licence)
    put(tree, "/usr/share/lintian/overrides/elasticsearch", (SOURCE / "lintian-overrides").read_text("utf-8"))


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="new folder for the files of the package")
    parser.add_argument("work", type=Path, help="folder for what is fetched; may be removed afterwards")
    parser.add_argument("--zip", type=Path, help="take this archive instead of fetching it; its checksum must fit too")
    options = parser.parse_args()
    os.umask(0o022)
    try:
        if options.zip is None:
            print(f"fetching {DISTRIBUTION.artifact}", flush=True)
        archive = options.zip or fetch(DISTRIBUTION, options.work)
        check(DISTRIBUTION, archive)
        print("unpacking", flush=True)
        stage(DISTRIBUTION, archive, options.tree)
    except (BuildError, OSError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
        print(f"stage_elasticsearch: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
