"""The Python environment is made inside the checkout, wherever that is, and Ansible gets a locale that it takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Stands for Python: makes an environment whose programs do nothing.
PYTHON = """#!/bin/sh
mkdir -p "$3/bin"
for program in python pip uv; do ln -s /bin/true "$3/bin/$program"; done
"""


def test_checkout_below_a_folder_with_a_space(tmp_path: Path) -> None:
    """Everything is below it, and a second run makes nothing."""
    checkout = tmp_path / "my work" / "checkout"
    shutil.copytree(ROOT / "requirements", checkout / "requirements")
    shutil.copy(ROOT / "Makefile", checkout)
    for name, text in (("python", PYTHON), ("find-python", '#!/bin/sh\necho "$PWD/scripts/python"\n')):
        path = checkout / "scripts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    for expected in ("Making", "Python environment"):
        command = ["make", "--silent", "venv"]
        made = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
        assert made.stdout.startswith(expected), made.stdout + made.stderr
    assert (checkout / ".venv" / ".installed").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["my work"]


def test_ansible_gets_a_locale_with_utf_8() -> None:
    """As it demands, also where the caller's locale is C or was never generated."""
    command = ["make", "--silent", "--eval=show: ; @echo $$LC_ALL", "show"]
    shown = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "C.UTF-8\n"


def test_ansible_may_keep_what_it_has_compiled() -> None:
    """Also where the caller's environment says that Python shall not."""
    command = ["make", "--silent", "--eval=show: ; @echo $${PYTHONDONTWRITEBYTECODE-unset}", "show"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "unset"
