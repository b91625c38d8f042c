"""The variables of the role elasticsearch, as a host of one version has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[2] / "roles" / "elasticsearch"
VERSIONS = {"6": "6.8.23", "8": "8.19.*"}


def variables(major: str, **options: Any) -> Any:
    """Return a templar that knows the role's variables for one version and these options."""
    loader = DataLoader()
    known: dict[str, Any] = {
        "inventory_hostname": "a",
        "ansible_managed": "Ansible managed",
        "elasticsearch_version": VERSIONS[major],
        "elasticsearch_members": {"a": "192.0.2.1"},
        "elasticsearch_password": "e" * 16,
        "elasticsearch_guard_password": "g" * 16,
    }
    for name in ("defaults/main.yml", "vars/main.yml", f"vars/{major}.yml"):
        known |= loader.load_from_file(str(ROLE / name), trusted_as_template=True)
    return Templar(loader, variables=known | options)


def value(major: str, name: str, **options: Any) -> Any:
    """Return one of the role's variables."""
    return variables(major, **options).template(trust_as_template("{{ " + name + " }}"))
