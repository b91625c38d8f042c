#!/usr/bin/env python3
"""Build Filebeat from its Go module and lay out the files of its Debian package.

go.mod and go.sum in the folder filebeat pin every module that takes part; Go refuses content with another checksum.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSION = "7.10.2"
MODULE = "github.com/elastic/beats/v7"
# When this version was tagged.
BUILD_TIME = "2021-01-12T19:17:53Z"

HOME = "/usr/share/filebeat"
CONFIGURATION = "/etc/filebeat"
SOURCE = Path(__file__).resolve().parent / "filebeat"
GO_FILES = ("go.mod", "go.sum", "tools.go")

# What a module's fileset needs at run time; the rest is documentation, test data and dashboards.
FILESET_FOLDERS = {("config",), ("ingest",)}


class BuildError(Exception):
    """The package cannot be made; the text says why."""


def go_environment(work: Path) -> dict[str, str]:
    """Return the environment of Go, whose caches are in ``work`` unless the caller's environment names others."""
    return {
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "objects"),
        **os.environ,
        # With cgo, the filter of system calls that Filebeat sets for itself kills it on today's C library.
        "CGO_ENABLED": "0",
        "GOOS": "linux",
        "GOARCH": "amd64",
        # Never another compiler than the installed one, nor another build than the one described here.
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOWORK": "off",
    }


def runtime_files(modules: Path) -> Iterator[Path]:
    """Return the files below ``modules`` that Filebeat reads at run time, relative to it."""
    for module in sorted(path for path in modules.iterdir() if path.is_dir()):
        for path in sorted(module.rglob("*")):
            inner = path.relative_to(module).parts
            if path.is_file() and (
                inner in {("module.yml",), (inner[0], "manifest.yml")} or inner[1:2] in FILESET_FOLDERS
            ):
                yield path.relative_to(modules)


def build(work: Path) -> tuple[Path, Path]:
    """Build Filebeat in ``work`` and return the program and the folder with the module's source.

    Raises:
        BuildError: the program says that it is another version.
        subprocess.CalledProcessError: Go failed and has said why.
    """
    source = work / "source"
    source.mkdir()
    for name in GO_FILES:
        shutil.copy(SOURCE / name, source / name)
    environment = go_environment(work)

    print("fetching the Go modules", flush=True)
    answer = subprocess.run(
        ["go", "mod", "download", "-json", MODULE],
        cwd=source, env=environment, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    program = work / "filebeat"
    print("building Filebeat", flush=True)
    flags = f"-s -w -X {MODULE}/libbeat/version.buildTime={BUILD_TIME} -X {MODULE}/libbeat/version.commit=v{VERSION}"
    subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", flags, "-o", program, f"{MODULE}/filebeat"],
        cwd=source, env=environment, check=True,
    )  # fmt: skip
    says = subprocess.run([program, "version"], check=True, stdout=subprocess.PIPE, text=True, cwd=work).stdout
    if f"filebeat version {VERSION} " not in says:
        raise BuildError(f"the program says '{says.strip()}' instead of version {VERSION}")
    return program, Path(json.loads(answer.stdout)["Dir"])


def put(tree: Path, path: str, content: bytes | str, mode: int = 0o644) -> None:
    """Put a file into the package's ``tree`` at the absolute ``path``."""
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)
    target.chmod(mode)


def stage(program: Path, source: Path, tree: Path) -> None:
    """Put the program, the modules from ``source`` and our own files into ``tree``."""
    put(tree, f"{HOME}/bin/filebeat", program.read_bytes(), 0o755)
    put(tree, "/usr/bin/filebeat", (SOURCE / "filebeat.sh").read_text("utf-8"), 0o755)
    put(tree, "/lib/systemd/system/filebeat.service", (SOURCE / "filebeat.service").read_text("utf-8"))
    modules = source / "filebeat" / "module"
    for path in runtime_files(modules):
        put(tree, f"{HOME}/module/{path}", (modules / path).read_bytes())
    put(tree, f"{CONFIGURATION}/filebeat.yml", (source / "filebeat" / "filebeat.yml").read_bytes(), 0o640)
    for path in sorted((source / "filebeat" / "modules.d").glob("*.yml.disabled")):
        put(tree, f"{CONFIGURATION}/modules.d/{path.name}", path.read_bytes())
    for folder in ("/var/lib/filebeat", "/var/log/filebeat"):
        (tree / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    licence = (SOURCE / "copyright").read_text("utf-8") + (source / "LICENSE.txt").read_text("utf-8")
    put(tree, "/usr/share/doc/filebeat/copyright", licence)
    put(tree, "/usr/share/doc/filebeat/NOTICE.txt.gz", gzip.compress((source / "NOTICE.txt").read_bytes(), 9, mtime=0))
    put(tree, "/usr/share/lintian/overrides/filebeat", (SOURCE / "lintian-overrides").read_text("utf-8"))


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="new folder for the files of the package")
    parser.add_argument("work", type=Path, help="folder for what is fetched and built; may be removed afterwards")
    options = parser.parse_args()
    os.umask(0o022)
    try:
        program, source = build(options.work.resolve())
        print("laying out the package", flush=True)
        stage(program, source, options.tree)
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        print(f"stage_filebeat: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
