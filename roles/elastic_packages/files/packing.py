"""How packages that are built here are packed. A change to this file has them built anew."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

MAINTAINER = "ansible-sre-stack authors <ansible-sre-stack@localhost>"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


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


def pack(recipe: Recipe, tree: Path, source: Path, destination: Path) -> None:
    """Make a package of the files in ``tree`` and the control files in ``source``, a folder of the package's name.

    Raises:
        subprocess.CalledProcessError: dpkg-deb refused.
    """
    name = source.name
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
