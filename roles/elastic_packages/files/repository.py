#!/usr/bin/env python3
"""Keep small signed APT repositories, one a package, in a cache folder: say what they lack, build what is missing.

The packages are built here, or taken from a folder that somebody brought them in. A repository is put together beside
its place and moved there when it is whole, so that a build which was killed leaves nothing half-made. Builds wait for
each other.
"""

from __future__ import annotations

import argparse
import fcntl
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

import signing_key
from packing import RECIPES, pack

HERE = Path(__file__).resolve().parent
SIGNER = "elastic_packages, the repository on this control node"


class RepositoryError(Exception):
    """A repository cannot be used or made; the text says why."""


PROGRAMS = {"dpkg-deb": "dpkg", "gpg": "gnupg"}
NAMES = ("elasticsearch", "filebeat", "kibana")
# The major version that the roles know besides the one that is built here.
MAJOR = "8"
ARCHITECTURES = {"amd64", "all"}
# As Elastic calls the key that its signatures are checked with.
KEY = "GPG-KEY-elasticsearch"


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Package:
    """A package and the folder of its repository."""

    name: str
    version: str
    folder: Path
    # The file that was brought; None for one that is built here.
    brought: Path | None = None

    @property
    def deb(self) -> str:
        """Its file's name, as APT has it."""
        return f"{self.name}_{self.version}_amd64.deb"


def packages(cache: Path, names: list[str], directory: Path | None) -> dict[str, Package]:
    """Return the packages of these names: those that are built here, or those in the folder that were brought.

    Raises:
        RepositoryError: what was brought is not what is needed.
    """
    found = {name: recipe_of(cache, name) for name in RECIPES} if directory is None else brought(cache, directory)
    return {name: found[name] for name in names if name in found}


def recipe_of(cache: Path, name: str) -> Package:
    """Return a package that is built here; another way of packing has another folder."""
    digest = hashlib.sha256()
    for path in (HERE / "packing.py", HERE / f"stage_{name}.py", *sorted((HERE / name).iterdir())):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    version = RECIPES[name].version
    return Package(name, version, cache / f"{name}-{version}-{digest.hexdigest()[:12]}")


def brought(cache: Path, directory: Path) -> dict[str, Package]:
    """Return the packages in a folder, once they are what the roles can install and fit each other.

    Raises:
        RepositoryError: one is missing, there twice, of another architecture, or of a version that does not do.
    """
    if not directory.is_dir():
        raise RepositoryError(f"{directory} (elastic_packages_directory) is no folder on the control node")
    found: dict[str, Package] = {}
    for file in sorted(directory.glob("*.deb")):
        package = described(cache, file)
        if package.name in found:
            both = f"{found[package.name].brought} and {file}"
            raise RepositoryError(f"{both} are both {package.name}; leave one of them in {directory}")
        if package.name in NAMES:
            found[package.name] = package
    for name in ("elasticsearch", "filebeat"):
        if name not in found:
            raise RepositoryError(f"{directory} has no package {name}; Elastic calls it {name}-8.19.1-amd64.deb")
    versions = {name: package.version for name, package in found.items()}
    if versions != {name: recipe.version for name, recipe in RECIPES.items()}:
        has = f"{directory} has {' and '.join(f'{name} {version}' for name, version in versions.items())}"
        if len(set(versions.values())) > 1:
            raise RepositoryError(f"{has}; all of them must be of one version")
        if versions["elasticsearch"].split(".")[0] != MAJOR:
            raise RepositoryError(f"{has}; the roles know major version {MAJOR}")
    return found


def described(cache: Path, file: Path) -> Package:
    """Return what dpkg-deb says about a file; raises RepositoryError where it is no package for the hosts."""
    form = "--showformat=${Package} ${Version} ${Architecture}"
    shown = subprocess.run(["dpkg-deb", "--show", form, str(file)], capture_output=True, text=True, check=False)
    if shown.returncode:
        raise RepositoryError(f"{file} is no package: {shown.stderr.strip()}")
    name, version, architecture = shown.stdout.split()
    if architecture not in ARCHITECTURES:
        raise RepositoryError(f"{file} is for {architecture}; the hosts need the package for amd64")
    # By the file's name, size and time: reading some hundred megabytes on each run tells no more.
    stat = file.stat()
    digest = hashlib.sha256(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()
    return Package(name, version, cache / f"{name}-{version}-{digest[:12]}", file)


def verify(file: Path, fingerprint: str) -> None:
    """Check a file by the checksum and the signature that lie beside it, where they do.

    Raises:
        RepositoryError: it is not the one that they were made for, or the key of the signature is missing or another.
    """
    total, signature, key = (Path(f"{file}.sha512"), Path(f"{file}.asc"), file.parent / KEY)
    if total.is_file():
        with file.open("rb") as content:
            actual = hashlib.file_digest(content, "sha512").hexdigest()
        if total.read_text("utf-8").split()[:1] != [actual]:
            raise RepositoryError(f"{file} is not the file that {total.name} was made for; fetch both again")
    if signature.is_file():
        if not key.is_file():
            raise RepositoryError(f"{signature} needs Elastic's key beside it, as {KEY}; or remove the signature")
        try:
            signing_key.check(key, fingerprint, str(key))
        except signing_key.WrongKeyError as error:
            raise RepositoryError(str(error)) from error
        with tempfile.TemporaryDirectory() as home:
            gpg(Path(home), "--import", key)
            try:
                gpg(Path(home), "--verify", signature, file)
            except RepositoryError as error:
                raise RepositoryError(f"{file} is not the file that {signature.name} was made for: {error}") from error
            finally:
                end_agent(Path(home))


def gpg(home: Path, *arguments: str | Path) -> bytes:
    """Run gpg with the keys in a folder and return what it printed.

    Raises:
        RepositoryError: gpg failed, with its reason.
    """
    command = ["gpg", "--homedir", home, "--batch", "--no-tty", "--quiet", *arguments]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        raise RepositoryError(f"gpg failed: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def end_agent(home: Path) -> None:
    """Leave no agent behind that keeps the folder of the keys in use."""
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False, capture_output=True)


class Signer:
    """The cache's own GnuPG key."""

    def __init__(self, cache: Path) -> None:
        """Use the key in ``cache``, which need not exist yet."""
        self.home = cache / "gnupg"
        self.public = cache / "key.asc"

    def ensure(self) -> None:
        """Make the key unless it is there."""
        if self.public.is_file():
            return
        self.home.mkdir(mode=0o700, exist_ok=True)
        if not gpg(self.home, "--list-secret-keys", "--with-colons"):
            gpg(self.home, "--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never")
        part = self.public.with_suffix(".part")
        part.write_bytes(gpg(self.home, "--armor", "--export"))
        part.rename(self.public)

    def sign(self, text: Path, signed: Path) -> None:
        """Write a clear-signed copy of ``text``."""
        gpg(self.home, "--digest-algo", "SHA512", "--output", signed, "--clear-sign", text)
        end_agent(self.home)

    def signed_text(self, signed: Path) -> str:
        """Return what was signed, once the signature is proved to be the key's."""
        return gpg(self.home, "--output", "-", "--decrypt", signed).decode()


def index(folder: Path, package: Package, signer: Signer) -> None:
    """Describe the one package in ``folder`` to APT, and sign the description."""
    file = folder / package.deb
    fields = subprocess.run(["dpkg-deb", "--field", file], check=True, stdout=subprocess.PIPE, text=True).stdout
    # APT adds the path to the address of the source, not to the address of this index.
    described = (
        f"{fields}Filename: {package.name}/{file.name}\nSize: {file.stat().st_size}\nSHA256: {sha256(file)}\n\n"
    ).encode()
    (folder / "Packages").write_bytes(described)
    release = folder / "Release"
    release.write_text(
        "Origin: ansible-sre-stack\nLabel: elastic_packages\nArchitectures: amd64\n"
        f"Date: {formatdate(time.time(), usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(described).hexdigest()} {len(described)} Packages\n",
        "utf-8",
    )
    signer.sign(release, folder / "InRelease")
    release.unlink()


def check(package: Package, signer: Signer) -> None:
    """Check a repository from the signature down to its package.

    Raises:
        RepositoryError: something is not what was signed.
    """
    folder = package.folder
    advice = f"remove {folder} to have it built anew"
    try:
        signed = signer.signed_text(folder / "InRelease")
        described = (folder / "Packages").read_text("utf-8")
        total = sha256(folder / package.deb)
    except (OSError, RepositoryError) as error:
        raise RepositoryError(f"{folder} is damaged ({error}); {advice}") from error
    if hashlib.sha256(described.encode()).hexdigest() not in signed:
        raise RepositoryError(f"{folder / 'Packages'} is not the one that was signed; {advice}")
    if f"SHA256: {total}\n" not in described:
        raise RepositoryError(f"{folder / package.deb} is not the one that was built; {advice}")


def status(cache: Path, names: list[str], directory: Path | None = None) -> dict[str, object]:
    """Return what of ``names`` is missing, the Debian packages that building it takes, and where the repositories are.

    Raises:
        RepositoryError: a repository is not what was signed, or what was brought is not what is needed.
    """
    signer = Signer(cache)
    found = packages(cache, names, directory)
    missing = [name for name, package in found.items() if not package.folder.is_dir() or not signer.public.is_file()]
    for name in set(found) - set(missing):
        check(found[name], signer)
    programs: dict[str, str] = {}
    for name in missing:
        programs |= PROGRAMS | (RECIPES[name].programs if directory is None else {})
    return {
        "missing": missing,
        "lacking": sorted({package for program, package in programs.items() if shutil.which(program) is None}),
        "root": os.geteuid() == 0,
        "key": str(signer.public),
        "folders": {name: str(package.folder) for name, package in found.items()},
        "versions": {name: found[name].version if name in found else "" for name in names},
    }


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Keep other builds waiting; the kernel gives the lock back when this program ends, however it ends."""
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(cache: Path, package: Package, fingerprint: str = "") -> None:
    """Build the repository of a package unless it is there; one that was brought is verified.

    Raises:
        subprocess.CalledProcessError: a step failed and has said why.
        RepositoryError: signing failed, or what was brought is not what it is said to be.
    """
    os.umask(0o022)
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache):
        signer = Signer(cache)
        signer.ensure()
        if package.folder.is_dir():
            return
        # What a killed build left: nobody else builds now.
        for left in cache.glob(".build-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as temporary:
            work, tree, made = (Path(temporary) / part for part in ("work", "tree", "made"))
            for part in (work, tree, made):
                part.mkdir()
            if package.brought:
                verify(package.brought, fingerprint)
                shutil.copyfile(package.brought, made / package.deb)
            else:
                subprocess.run([sys.executable, HERE / f"stage_{package.name}.py", tree, work], check=True)
                print("packing", flush=True)
                pack(RECIPES[package.name], tree, HERE / package.name, made / package.deb)
            index(made, package, signer)
            made.rename(package.folder)
        print(f"built {package.folder}", flush=True)


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "action", choices=["status", "build"], help="print what there is as JSON, or build what is missing"
    )
    parser.add_argument("cache", type=Path, help="folder of the repositories")
    parser.add_argument("package", nargs="+", choices=NAMES)
    parser.add_argument("--directory", type=Path, help="folder with packages that were brought, to build none")
    parser.add_argument("--fingerprint", default="", help="of the key that signatures beside them are checked with")
    options = parser.parse_args()
    cache = options.cache.resolve()
    try:
        if options.action == "status":
            print(json.dumps(status(cache, options.package, options.directory)))
        else:
            for package in packages(cache, options.package, options.directory).values():
                build(cache, package, options.fingerprint)
    except (OSError, RepositoryError, subprocess.CalledProcessError) as error:
        print(f"elastic_packages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
