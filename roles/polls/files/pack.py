"""Pack source files into an archive that is the same, byte for byte, when the files are the same.

Usage: pack.py SOURCE CACHE
Prints the SHA-256 of what is in it; the archive is CACHE/<that>.tar.gz. Runs on the control node.
"""

import gzip
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

# What a release has no use for: tests, and what tools leave behind.
SKIPPED_FOLDERS = {"tests", "__pycache__", "node_modules"}
SKIPPED_SUFFIXES = {".pyc", ".in", ".swp"}
SKIPPED_NAMES = {"conftest.py", "pytest.ini"}


def files(source: Path) -> Iterator[Path]:
    """Yield the files that belong to a release, in an order of their own."""
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name not in SKIPPED_NAMES and path.suffix not in SKIPPED_SUFFIXES and not name.startswith("."):
                yield path


def add(archive: tarfile.TarFile, name: str, content: bytes | None = None) -> None:
    """Add a file, or a folder where there is no content, owned by root, without the time and mode that it has here."""
    member = tarfile.TarInfo(name)
    member.uname = member.gname = "root"
    if content is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content or b""))


def main(source: Path, cache: Path) -> None:
    """Write the archive unless it is there, and print its checksum."""
    contents: dict[str, bytes | None] = {}
    for file in files(source):
        path = file.relative_to(source)
        # Folders, too: their modes must not depend on the umask of the host that unpacks them.
        contents |= dict.fromkeys(parent.as_posix() for parent in reversed(path.parents))
        contents[path.as_posix()] = file.read_bytes()
    checksum = hashlib.sha256()
    for name, content in contents.items():
        checksum.update(f"{name}\0{hashlib.sha256(content or b'').hexdigest()}\n".encode())
    version = checksum.hexdigest()
    target = cache / f"{version}.tar.gz"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Under its name only when complete, as two runs may share the cache.
        partial = cache / f"{version}.{os.getpid()}"
        with gzip.GzipFile(partial, "wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in contents.items():
                add(archive, name, content)
        partial.replace(target)
    print(version)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
