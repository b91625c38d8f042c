#!/usr/bin/env python3
"""Keep small signed APT repositories, one a package, in a cache folder: say what they lack, build what is missing.

A repository is put together beside its place and moved there when it is whole, so that a build which was killed leaves
nothing half-made. Builds wait for each other.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAINTAINER = "ansible-sre-stack authors <ansible-sre-stack@localhost>"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
SIGNER = "elastic_packages, the repository on this control node"


class RepositoryError(Exception):
    """A repository cannot be used or made; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """How a package comes to be."""

    version: str
    # When its publisher published it, in Unix seconds: the time of the package's files.
    epoch: int
    # Programs that the build needs, and the Debian packages that have them.
    programs: dict[str, str]


RECIPES = {
    "elasticsearch": Recipe("6.8.23", 1641427200, {"mvn": "maven"}),
    "filebeat": Recipe("7.10.2", 1610479073, {"go": "golang-go"}),
}
PROGRAMS = {"dpkg-deb": "dpkg", "gpg": "gnupg"}


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place(cache: Path, name: str) -> Path:
    """Return the folder of package ``name``'s repository; another way of packing has another folder."""
    digest = hashlib.sha256()
    for path in (HERE / "repository.py", HERE / f"stage_{name}.py", *sorted((HERE / name).iterdir())):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return cache / f"{name}-{RECIPES[name].version}-{digest.hexdigest()[:12]}"


def deb(name: str) -> str:
    """Return the file name of package ``name``."""
    return f"{name}_{RECIPES[name].version}_amd64.deb"


class Signer:
    """The cache's own GnuPG key."""

    def __init__(self, cache: Path) -> None:
        """Use the key in ``cache``, which need not exist yet."""
        self.home = cache / "gnupg"
        self.public = cache / "key.asc"

    def gpg(self, *arguments: str | Path) -> bytes:
        """Run gpg with the cache's keys and return what it printed.

        Raises:
            RepositoryError: gpg failed, with its reason.
        """
        command = ["gpg", "--homedir", self.home, "--batch", "--no-tty", "--quiet", *arguments]
        result = subprocess.run(command, capture_output=True, check=False)
        if result.returncode:
            raise RepositoryError(f"gpg failed: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout

    def ensure(self) -> None:
        """Make the key unless it is there."""
        if self.public.is_file():
            return
        self.home.mkdir(mode=0o700, exist_ok=True)
        if not self.gpg("--list-secret-keys", "--with-colons"):
            self.gpg("--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never")
        part = self.public.with_suffix(".part")
        part.write_bytes(self.gpg("--armor", "--export"))
        part.rename(self.public)

    def sign(self, text: Path, signed: Path) -> None:
        """Write a clear-signed copy of ``text``, and leave no agent behind that keeps the cache in use."""
        self.gpg("--digest-algo", "SHA512", "--output", signed, "--clear-sign", text)
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"], check=False, capture_output=True)

    def signed_text(self, signed: Path) -> str:
        """Return what was signed, once the signature is proved to be the key's."""
        return self.gpg("--output", "-", "--decrypt", signed).decode()


def pack(tree: Path, name: str, destination: Path) -> None:
    """Make a package of the files in ``tree`` and the control files of package ``name``.

    Raises:
        subprocess.CalledProcessError: dpkg-deb refused.
    """
    recipe, source = RECIPES[name], HERE / name
    entry = (
        f"{name} ({recipe.version}) stable; urgency=low\n\n  * Packed by role elastic_packages.\n\n"
        f" -- {MAINTAINER}  {formatdate(recipe.epoch)}\n"
    )
    (tree / f"usr/share/doc/{name}/changelog.gz").write_bytes(gzip.compress(entry.encode(), 9, mtime=0))

    files = sorted(path for path in tree.rglob("*") if path.is_file())
    control = tree / "DEBIAN"
    control.mkdir()
    # A file counts as its size in whole KiB, anything else as one.
    size = sum(-(-path.stat().st_size // 1024) if path.is_file() else 1 for path in tree.rglob("*"))
    text = (source / "control").read_text("utf-8")
    text = text.format(version=recipe.version, maintainer=MAINTAINER, installed_size=size)
    (control / "control").write_text(text, "utf-8")
    names = [str(path.relative_to(tree)) for path in files]
    (control / "conffiles").write_text("".join(f"/{path}\n" for path in names if path.startswith("etc/")), "utf-8")
    sums = (hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in files)
    text = "".join(f"{total}  {path}\n" for total, path in zip(sums, names, strict=True))
    (control / "md5sums").write_text(text, "utf-8")
    for script in SCRIPTS:
        if (source / script).is_file():
            shutil.copyfile(source / script, control / script)
            (control / script).chmod(0o755)
    for path in tree.rglob("*"):
        os.utime(path, (recipe.epoch, recipe.epoch))
    # Much of the content is compressed already: more effort than the least costs time and saves nothing.
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, destination],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(recipe.epoch)},
    )


def index(folder: Path, name: str, signer: Signer) -> None:
    """Describe the one package in ``folder`` to APT, and sign the description."""
    package = folder / deb(name)
    fields = subprocess.run(["dpkg-deb", "--field", package], check=True, stdout=subprocess.PIPE, text=True).stdout
    # APT adds the path to the address of the source, not to the address of this index.
    packages = (
        f"{fields}Filename: {name}/{package.name}\nSize: {package.stat().st_size}\nSHA256: {sha256(package)}\n\n"
    ).encode()
    (folder / "Packages").write_bytes(packages)
    release = folder / "Release"
    release.write_text(
        "Origin: ansible-sre-stack\nLabel: elastic_packages\nArchitectures: amd64\n"
        f"Date: {formatdate(time.time(), usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n",
        "utf-8",
    )
    signer.sign(release, folder / "InRelease")
    release.unlink()


def check(folder: Path, name: str, signer: Signer) -> None:
    """Check a repository from the signature down to its package.

    Raises:
        RepositoryError: something is not what was signed.
    """
    advice = f"remove {folder} to have it built anew"
    try:
        signed = signer.signed_text(folder / "InRelease")
        packages = (folder / "Packages").read_text("utf-8")
        total = sha256(folder / deb(name))
    except (OSError, RepositoryError) as error:
        raise RepositoryError(f"{folder} is damaged ({error}); {advice}") from error
    if hashlib.sha256(packages.encode()).hexdigest() not in signed:
        raise RepositoryError(f"{folder / 'Packages'} is not the one that was signed; {advice}")
    if f"SHA256: {total}\n" not in packages:
        raise RepositoryError(f"{folder / deb(name)} is not the one that was built; {advice}")


def status(cache: Path, names: list[str]) -> dict[str, object]:
    """Return what of ``names`` is missing, the Debian packages that building it takes, and where the repositories are.

    Raises:
        RepositoryError: a repository is not what was signed.
    """
    signer = Signer(cache)
    folders = {name: place(cache, name) for name in names}
    missing = [name for name, folder in folders.items() if not folder.is_dir() or not signer.public.is_file()]
    for name in set(names) - set(missing):
        check(folders[name], name, signer)
    programs: dict[str, str] = {}
    for name in missing:
        programs |= PROGRAMS | RECIPES[name].programs
    return {
        "missing": missing,
        "lacking": sorted({package for program, package in programs.items() if shutil.which(program) is None}),
        "root": os.geteuid() == 0,
        "key": str(signer.public),
        "folders": {name: str(folder) for name, folder in folders.items()},
    }


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Keep other builds waiting; the kernel gives the lock back when this program ends, however it ends."""
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(cache: Path, name: str) -> None:
    """Build the repository of package ``name`` unless it is there.

    Raises:
        subprocess.CalledProcessError: a step failed and has said why.
        RepositoryError: signing failed.
    """
    os.umask(0o022)
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache):
        signer = Signer(cache)
        signer.ensure()
        folder = place(cache, name)
        if folder.is_dir():
            return
        # What a killed build left: nobody else builds now.
        for left in cache.glob(".build-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as temporary:
            work, tree, made = (Path(temporary) / part for part in ("work", "tree", "made"))
            for part in (work, tree, made):
                part.mkdir()
            subprocess.run([sys.executable, HERE / f"stage_{name}.py", tree, work], check=True)
            print("packing", flush=True)
            pack(tree, name, made / deb(name))
            index(made, name, signer)
            made.rename(folder)
        print(f"built {folder}", flush=True)


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "action", choices=["status", "build"], help="print what there is as JSON, or build what is missing"
    )
    parser.add_argument("cache", type=Path, help="folder of the repositories")
    parser.add_argument("package", nargs="+", choices=list(RECIPES))
    options = parser.parse_args()
    try:
        if options.action == "status":
            print(json.dumps(status(options.cache, options.package)))
        else:
            for name in options.package:
                build(options.cache.resolve(), name)
    except (OSError, RepositoryError, subprocess.CalledProcessError) as error:
        print(f"elastic_packages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
