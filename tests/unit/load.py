"""Import the repository's Python that is in no package: modules, filters and programs of roles and playbooks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]


def load(path: str, name: str = "") -> ModuleType:
    """Import a file of the repository, under its own name or another.

    Modules import what they share under the collection's name, so it is loaded under that one, and ahead of them.
    """
    prefix = "ansible_collections.sre.stack.plugins.module_utils." if path.startswith("plugins/module_utils/") else ""
    name = name or prefix + Path(path).stem
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where data classes look for the types of their fields.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
