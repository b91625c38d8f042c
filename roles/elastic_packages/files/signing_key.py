#!/usr/bin/env python3
"""Fetch the key that signs an APT repository, and keep it only if it is the expected one."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

TIMEOUT_SECONDS = 20
LARGEST_BYTES = 1_000_000


class WrongKeyError(Exception):
    """The key cannot be used; the text says why."""


def fingerprints(key: Path) -> list[str]:
    """Return the fingerprints of the primary keys in a file, without spaces.

    Raises:
        subprocess.CalledProcessError: gpg finds no key in it.
    """
    with tempfile.TemporaryDirectory() as home:
        command = ["gpg", "--homedir", home, "--batch", "--no-tty", "--with-colons", "--show-keys", str(key)]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = []
    # A record "fpr" belongs to the key of the record before it; those of subkeys do not count.
    primary = False
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] == "fpr" and primary:
            found.append(fields[9])
        primary = fields[0] == "pub"
    return found


def check(key: Path, fingerprint: str, url: str) -> None:
    """Raise WrongKeyError unless the file holds the expected key and no other."""
    wanted = fingerprint.replace(" ", "").upper()
    try:
        found = fingerprints(key)
    except subprocess.CalledProcessError as error:
        raise WrongKeyError(f"{url} gave no key that gpg can read") from error
    if found != [wanted]:
        raise WrongKeyError(
            f"{url} gave {' and '.join(found) or 'no key'} instead of {wanted}: do not trust what it signed; "
            "if Elastic has announced a new key, set elastic_packages_key_fingerprint"
        )


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where the key is published")
    parser.add_argument("fingerprint", help="the key's fingerprint, spaces allowed")
    parser.add_argument("file", type=Path, help="where the key is kept")
    options = parser.parse_args()
    part = options.file.with_suffix(".part")
    try:
        options.file.parent.mkdir(parents=True, exist_ok=True)
        with urlopen(options.url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - what comes is checked, not trusted
            part.write_bytes(answer.read(LARGEST_BYTES))
        check(part, options.fingerprint, options.url)
        part.rename(options.file)
    except (OSError, ValueError, WrongKeyError) as error:
        part.unlink(missing_ok=True)
        print(f"elastic_packages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
