"""The rules that linters do not know, each a function from the repository to its findings.

A finding is one line that starts with the file it is about. Every rule is proved able to fail in
test_rules.py.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.policy.repository import Repository
from tools import role_readme

Rule = Callable[[Repository], Iterator[str]]
RULES: dict[str, Rule] = {}

ROLE_FILES = (
    "README.md",
    "defaults/main.yml",
    "meta/main.yml",
    "meta/argument_specs.yml",
    "tasks/preflight.yml",
)
MAX_TASK_LINES = 120


# Steps of Molecule that need a playbook of the scenario; the others have one in the base configuration.
MOLECULE_STEPS = {"cleanup", "prepare", "side_effect"}

FORBIDDEN = {
    r"\bignore_errors\b": "hides a failure; say with failed_when what a failure is",
    r"\bfailed_when:\s*(false|no)\b": "hides a failure; say with failed_when what a failure is",
    r"\b0\.0\.0\.0/0\b|(?<![\w:])::/0\b": "opens to everybody; name the hosts",
    r"verification_mode\W+none\b": "switches the check of certificates off",
    r"\bvalidate_certs:\s*(false|no)\b": "switches the check of certificates off",
    r"\bssl_verify\W+none\b|\bverify\s+none\b": "switches the check of certificates off",
    r"\bsslmode\W+(disable|allow|prefer|require|verify-ca)\b": "accepts any server; verify-full",
    r"\bcurl\b.*\s(-k|--insecure)\b": "switches the check of certificates off",
    r"\bhost\s+\S+\s+\S+\s+\S+\s+trust\b": "lets anybody in without a password",
}

PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
SECRET_NAME = re.compile(r"_(password|passphrase|secret|secret_key|token)$")

# Who may be named in a URL: places to read, names reserved for examples, and this machine.
URL = re.compile(r"\b(?:https?|ftp|git)://(?:[^\s/@]*@)?([A-Za-z0-9.-]+\.[A-Za-z]{2,})(?=[:/\s\"'`)>]|$)")
URL_HOSTS = (
    "127.0.0.1",
    "commonmark.org",
    "conventionalcommits.org",
    "debian.org",
    "djangoproject.com",
    "docker.com",
    "elastic.co",
    "etcd.io",
    "example.com",
    "example.net",
    "example.org",
    "github.com",
    "gunicorn.org",
    "haproxy.org",
    "json-schema.org",
    "keepachangelog.com",
    "nginx.org",
    "postgresql.org",
    "readthedocs.io",
    "semver.org",
    "supervisord.org",
    "vega.github.io",
    "w3.org",
)
PACKAGE_OPTIONS = re.compile(
    r"^\s*(--(?:extra-)?index-url|-i\s+http|--find-links|--trusted-host)|\b(?:PIP|UV)_\w*INDEX\w*=",
    re.MULTILINE,
)

GROUPS = re.compile(r"\bgroups\s*[\[.]|\bgroup_names\b|\bhostvars\b")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
MAKE = re.compile(r"(?:^ *|`|\$ |&& )make ((?:[A-Z_]+=\S+ )*)([a-z][a-z0-9-]*)", re.MULTILINE)
PLAYBOOK = re.compile(r"\bansible-playbook [^\n`]*?((?:[\w-]+/)*[\w-]+\.yml)(?=[\s`]|$)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def rule(function: Rule) -> Rule:
    """Add a function to the rules."""
    RULES[function.__name__] = function
    return function


# Roles


@rule
def role_has_its_files(repository: Repository) -> Iterator[str]:
    """Every role has its README, defaults, argument specs, meta and preflight checks."""
    for role in repository.roles:
        for name in ROLE_FILES:
            if not (role.path / name).is_file():
                yield f"roles/{role.name}: {name} is missing"


@rule
def specs_equal_defaults(repository: Repository) -> Iterator[str]:
    """The argument specs name exactly the defaults, with the same values, and the required ones."""
    for role in repository.roles:
        where = f"roles/{role.name}/meta/argument_specs.yml"
        for name, option in role.options.items():
            if option.get("required"):
                if "default" in option or name in role.defaults:
                    yield f"{where}: {name} is required and has a default"
            elif name not in role.defaults:
                yield f"{where}: {name} is neither required nor in defaults/main.yml"
            elif "default" not in option:
                yield f"{where}: {name} does not repeat its default"
            elif option["default"] != role.defaults[name]:
                yield f"{where}: {name} has another default than defaults/main.yml"
        for name in role.defaults.keys() - role.options.keys():
            yield f"{where}: {name} of defaults/main.yml is missing"


@rule
def specs_have_their_tasks(repository: Repository) -> Iterator[str]:
    """Every entry point exists, and the checks ahead of everything look at the options of the role itself."""
    for role in repository.roles:
        where = f"roles/{role.name}/meta/argument_specs.yml"
        points = role.entry_points
        for point in points:
            if not (role.path / "tasks" / f"{point}.yml").is_file():
                yield f"{where}: entry point {point} has no tasks/{point}.yml"
        if not points:
            yield f"{where}: has no entry point"
        if "main" in points and "sre.stack.refuse:" not in repository.texts.get(role.path / "tasks/preflight.yml", ""):
            yield f"roles/{role.name}/tasks/preflight.yml: does not use sre.stack.refuse, which checks the options"


@rule
def options_are_described(repository: Repository) -> Iterator[str]:
    """Every option says its type and what it is for."""
    for role in repository.roles:
        for name, option in role.options.items():
            for key in ("type", "description"):
                if not option.get(key):
                    yield f"roles/{role.name}/meta/argument_specs.yml: {name} has no {key}"


@rule
def secrets_have_no_default(repository: Repository) -> Iterator[str]:
    """Nobody runs with a password that stands in a repository."""
    for role in repository.roles:
        for name in role.defaults:
            if SECRET_NAME.search(name):
                yield f"roles/{role.name}/defaults/main.yml: {name} is a secret and has a default"


@rule
def options_are_used(repository: Repository) -> Iterator[str]:
    """Every option is used somewhere in its role."""
    for role in repository.roles:
        used = "\n".join(
            re.sub(r"^#.*$", "", repository.texts[path], flags=re.MULTILINE)
            for folder in ("tasks", "templates", "handlers", "vars", "defaults", "files")
            for path in repository.under(f"roles/{role.name}/{folder}/**/*")
            if path in repository.texts
        )
        for name in role.options:
            # Its own line in defaults/main.yml is not a use.
            uses = len(re.findall(rf"\b{re.escape(name)}\b", used))
            if uses <= (name in role.defaults):
                yield f"roles/{role.name}: {name} is never used"


@rule
def roles_know_no_groups(repository: Repository) -> Iterator[str]:
    """Roles take hosts as variables: the inventory's groups are the playbooks' business."""
    for path in repository.under("roles/*/**/*"):
        if path.suffix == ".md":
            continue
        for number, line in enumerate(repository.texts.get(path, "").splitlines(), 1):
            if GROUPS.search(line):
                yield f"{repository.name(path)}:{number}: uses the inventory's groups or hostvars"


@rule
def readme_tables_are_current(repository: Repository) -> Iterator[str]:
    """The table of variables in a role's README is what `make docs` writes."""
    for role in repository.roles:
        try:
            current, wanted = role_readme.render(role.path)
        except role_readme.ReadmeError as error:
            yield f"roles/{error}"
            continue
        if current != wanted:
            yield f"roles/{role.name}/README.md: outdated: run make docs"


@rule
def role_readme_has_its_sections(repository: Repository) -> Iterator[str]:
    """A role's README answers the same questions in the same order."""
    wanted = ["Requirements", "Variables", "Dependencies", "Example", "Limits"]
    for role in repository.roles:
        text = repository.texts.get(role.path / "README.md", "")
        found = [name for name in re.findall(r"^## (\w+)", text, re.MULTILINE) if name in wanted]
        if found != wanted:
            missing = ", ".join(name for name in wanted if name not in found) or "their order"
            yield f"roles/{role.name}/README.md: sections: {missing}"


# Playbooks, tasks, variables


@rule
def roles_carry_their_tag(repository: Repository) -> Iterator[str]:
    """`--tags nginx` runs the role nginx."""
    for path in repository.under("playbooks/*.yml"):
        for play in repository.load(path) or []:
            for entry in play.get("roles") or []:
                name = entry.get("role") if isinstance(entry, dict) else entry
                tags = entry.get("tags") if isinstance(entry, dict) else None
                if name not in (tags or []):
                    yield f"{repository.name(path)}: role {name} lacks the tag {name}"


@rule
def task_files_are_short(repository: Repository) -> Iterator[str]:
    """A file of tasks fits in the head."""
    for path in repository.under("roles/*/tasks/**/*.yml", "roles/*/handlers/**/*.yml", "playbooks/tasks/**/*.yml"):
        lines = len(repository.texts[path].splitlines())
        if lines > MAX_TASK_LINES:
            yield f"{repository.name(path)}: {lines} lines, more than {MAX_TASK_LINES}: split it"


@rule
def nothing_forbidden(repository: Repository) -> Iterator[str]:
    """No hidden failures, no open doors, no unchecked certificates."""
    folders = ("roles", "playbooks", "group_vars", "inventories", "molecule")
    for path in repository.under(*(f"{folder}/**/*" for folder in folders)):
        if path.suffix == ".md":
            continue
        for number, line in enumerate(repository.texts.get(path, "").splitlines(), 1):
            for pattern, why in FORBIDDEN.items():
                if found := re.search(pattern, line, re.IGNORECASE):
                    yield f"{repository.name(path)}:{number}: '{found[0]}' {why}"


TASKS_AND_PLAYS = ("roles/*/tasks/**/*.yml", "playbooks/*.yml", "playbooks/tasks/**/*.yml")


def walk(tasks: Any, delegate: Any = None, become: Any = None) -> Iterator[tuple[dict[str, Any], Any, Any]]:
    """Return tasks, those in blocks too, each with the host it is delegated to and the variable ansible_become."""
    for task in tasks or []:
        host = task.get("delegate_to", delegate)
        variable = (task.get("vars") or {}).get("ansible_become", become)
        yield task, host, variable
        for part in ("block", "rescue", "always"):
            yield from walk(task.get(part), host, variable)


@rule
def control_node_tasks_become_nobody(repository: Repository) -> Iterator[str]:
    """A task on the control node is the person's own: by a variable, because an inventory's would beat the keyword."""
    for path in repository.under(*TASKS_AND_PLAYS):
        for entry in repository.load(path) or []:
            own = entry.get("hosts") == "localhost" or (entry.get("vars") or {}).get("ansible_connection") == "local"
            play = [entry | {"block": entry.get("tasks")} | ({"delegate_to": "localhost"} if own else {})]
            for task, host, variable in walk(play if "hosts" in entry else [entry]):
                if host == "localhost" and variable is not False:
                    yield f"{repository.name(path)}: {task.get('name')}: lacks vars: {{ansible_become: false}}"


@rule
def own_calls_use_no_proxy(repository: Repository) -> Iterator[str]:
    """Only packages are fetched through a proxy, never what the site's hosts say to each other."""
    packages = repository.root / "roles" / "elastic_packages"
    for path in repository.under(*TASKS_AND_PLAYS):
        for entry in (repository.load(path) or []) if not path.is_relative_to(packages) else []:
            for task, _, _ in walk([entry | {"block": entry.get("tasks") or entry.get("block")}]):
                if (task.get("ansible.builtin.uri") or {"use_proxy": False}).get("use_proxy") is not False:
                    yield f"{repository.name(path)}: {task.get('name')}: lacks use_proxy: false"
    for pattern in ("roles/*/**/*", "playbooks/**/*", "plugins/**/*"):
        for path in repository.under(pattern):
            text = "" if path.is_relative_to(packages) else repository.texts.get(path, "")
            if path.suffix != ".md" and (found := re.search(r"\burlopen\(|\bcurl\b(?=.*http)(?!.*--noproxy)", text)):
                yield f"{repository.name(path)}: '{found[0]}' would use a proxy of the environment"


@rule
def templates_say_who_manages_them(repository: Repository) -> Iterator[str]:
    """A file on a target says that Ansible wrote it, where its format knows comments."""
    for path in repository.under("roles/*/templates/**/*"):
        # JSON knows no comments, and a page is for visitors.
        if path.name.endswith((".json.j2", ".html.j2")):
            continue
        head = repository.texts[path].splitlines()[:3]
        if not any("ansible_managed" in line for line in head):
            yield f"{repository.name(path)}: has no ansible_managed in its first lines"


@rule
def group_vars_name_options(repository: Repository) -> Iterator[str]:
    """group_vars/<group>/<role>.yml sets that role's options, or truths of the whole site."""
    options: dict[str, dict[str, Any]] = {"site": {}} | {role.name: role.options for role in repository.roles}
    for path in repository.under("group_vars/*/*.yml"):
        if path.stem not in options:
            yield f"{repository.name(path)}: there is no role {path.stem}"
            continue
        for name in repository.load(path) or {}:
            if name not in options[path.stem] and not name.startswith("site_"):
                yield f"{repository.name(path)}: {name} is no option of role {path.stem}"


@rule
def supported_ansible_is_the_tested_one(repository: Repository) -> Iterator[str]:
    """What the collection and the front page promise is the version of ansible-core that the tests run with."""
    tested = re.search(
        r"^ansible-core==(\d+\.\d+)", repository.texts[repository.root / "requirements" / "dev.txt"], re.MULTILINE
    )
    for name, text in (
        ("meta/runtime.yml", f'requires_ansible: ">={tested and tested[1]}.0"'),
        ("README.md", f"ansible-core {tested and tested[1]} or newer"),
    ):
        if text not in repository.texts.get(repository.root / name, ""):
            yield f"{name}: does not say {text}"


@functools.cache
def bundled_collections() -> dict[str, str]:
    """Return the collections that the installed package `ansible` carries, with versions."""
    spec = importlib.util.find_spec("ansible_collections")
    if spec is None or not spec.submodule_search_locations:
        return {}
    # Of several places that the package may have, only the installed one holds manifests.
    manifests = (path for place in spec.submodule_search_locations for path in Path(place).glob("*/*/MANIFEST.json"))
    infos = (json.loads(path.read_text("utf-8"))["collection_info"] for path in manifests)
    return {f"{info['namespace']}.{info['name']}": info["version"] for info in infos}


@rule
def collections_are_the_bundled_ones(repository: Repository) -> Iterator[str]:
    """Who installs collections one by one gets the versions that the tests ran with."""
    bundled = bundled_collections()
    wanted = (repository.load(repository.root / "requirements.yml") or {}).get("collections", [])
    pinned = {entry["name"]: str(entry.get("version")) for entry in wanted}
    for name, version in pinned.items():
        if bundled.get(name) != version:
            yield f"requirements.yml: {name} {version}, but ansible bundles {bundled.get(name)}"
    used = set()
    for path in repository.under("roles/**/*.yml", "playbooks/**/*.yml"):
        text = repository.texts[path]
        used |= {name for name in bundled if re.search(rf"\b{re.escape(name)}\.\w", text)}
    for name in sorted(used - pinned.keys()):
        yield f"requirements.yml: {name} is used and not pinned"


# The whole repository


@rule
def no_private_key(repository: Repository) -> Iterator[str]:
    """Keys are made where they are used, never kept in git."""
    for path, text in repository.texts.items():
        if PRIVATE_KEY.search(text):
            yield f"{repository.name(path)}: contains a private key"


@rule
def urls_lead_to_known_places(repository: Repository) -> Iterator[str]:
    """No package registry, mirror or machine of somebody's own is written into the repository."""
    for path, text in repository.texts.items():
        for host in sorted(set(URL.findall(text))):
            if not any(host == known or host.endswith(f".{known}") for known in URL_HOSTS):
                yield f"{repository.name(path)}: names the host {host}"
        if path.suffix in {".txt", ".in", ".cfg", ".toml"} and PACKAGE_OPTIONS.search(text):
            yield f"{repository.name(path)}: chooses a package registry"


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown text."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@rule
def links_lead_somewhere(repository: Repository) -> Iterator[str]:
    """Every relative link in Markdown leads to a file, and to a heading in it."""
    for path, text in repository.markdown.items():
        for match in LINK.finditer(FENCE.sub("", text)):
            link = unquote(next(filter(None, match.groups())))
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists():
                yield f"{repository.name(path)}: {link} does not exist"
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
                yield f"{repository.name(path)}: {link}: no such heading"


@rule
def commands_in_markdown_exist(repository: Repository) -> Iterator[str]:
    """Whoever types what a page says finds the target or the playbook."""
    makefile = repository.texts.get(repository.root / "Makefile", "")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    for path, text in repository.markdown.items():
        for _, target in MAKE.findall(text):
            if target not in targets:
                yield f"{repository.name(path)}: make {target}: no such target"
        for playbook in PLAYBOOK.findall(text):
            if not (repository.root / playbook).is_file():
                yield f"{repository.name(path)}: {playbook}: no such playbook"


@rule
def readme_lists_every_role(repository: Repository) -> Iterator[str]:
    """The front page links to every role's own page."""
    text = repository.texts.get(repository.root / "README.md", "")
    for role in repository.roles:
        if f"(roles/{role.name}/README.md)" not in text and f"(roles/{role.name}/)" not in text:
            yield f"README.md: role {role.name} is not in the table of roles"


@rule
def molecule_steps_exist(repository: Repository) -> Iterator[str]:
    """A step whose playbook or tests are missing would be skipped in silence, and pass."""
    for path in repository.under("molecule/*/molecule.yml"):
        settings = repository.load(path) or {}
        named = (settings.get("ansible") or {}).get("playbooks") or {}
        sequences = settings.get("scenario") or {}
        steps = {step for sequence in sequences.values() for step in sequence}
        for step in sorted(steps & MOLECULE_STEPS):
            if not (path.parent / named.get(step, f"{step}.yml")).is_file():
                yield f"{repository.name(path)}: step {step} has no playbook"
        folder = path.parent / (settings.get("verifier") or {}).get("directory", "tests")
        if "verify" in steps and not list(folder.resolve().glob("test_*.py")):
            yield f"{repository.name(path)}: step verify has no tests"


@rule
def locks_agree(repository: Repository) -> Iterator[str]:
    """What is tested is what is deployed: a package has one version in all lock files."""
    seen: dict[str, tuple[str, str]] = {}
    for path in repository.files:
        if path.name == "requirements.txt" or path.parent.name == "requirements":
            where = repository.name(path)
            text = repository.texts[path]
            for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE):
                first, other = seen.setdefault(name.lower(), (version, where))
                if first != version:
                    yield f"{where}: {name} {version}, but {first} in {other}: run make lock"


@rule
def decisions_are_whole(repository: Repository) -> Iterator[str]:
    """Decision records are numbered without gaps, have their four parts, and are listed."""
    wanted = ["Context", "Decision", "Consequences", "What would change our mind"]
    index = repository.texts.get(repository.root / "docs" / "adr" / "README.md", "")
    for number, path in enumerate(repository.under("docs/adr/[0-9]*.md"), 1):
        name = repository.name(path)
        if not path.name.startswith(f"{number:04d}-"):
            yield f"{name}: number {number:04d} is missing before it"
        found = re.findall(r"^## (.+)$", repository.texts[path], re.MULTILINE)
        if found != wanted:
            yield f"{name}: its parts are {found}, not {wanted}"
        if f"({path.name})" not in index:
            yield f"{name}: is not listed in docs/adr/README.md"


# Alerts


@rule
def alerts_are_explained_and_proven(repository: Repository) -> Iterator[str]:
    """Each alert has its part of the runbook and a test that makes it ring; experiments expect no others."""
    runbook, tests = "docs/runbooks/alerts.md", "tests/acceptance/alerts.yml"
    for path in sorted(repository.root.glob("roles/*/files/rules.yml")):
        file = path.relative_to(repository.root)
        known = {one["alert"]: one for group in repository.load(path)["groups"] for one in group["rules"]}
        for name, alert in known.items():
            if alert["annotations"]["runbook"] != f"{runbook}#{name.lower()}":
                yield f"{file}: {name} does not lead to {runbook}#{name.lower()}"
            if alert["labels"]["severity"] not in {"page", "ticket"}:
                yield f"{file}: {name} is neither a page nor a ticket"
        headings = set(re.findall(r"^## (\w+)$", (repository.root / runbook).read_text("utf-8"), re.MULTILINE))
        cases = repository.load(repository.root / tests)["tests"]
        rings = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
        for where, names, missing in ((runbook, headings, "is not explained"), (tests, rings, "is never made to ring")):
            for name in sorted(known.keys() ^ names):
                yield f"{where}: {name} {missing if name in known else 'is no alert'}"
        for experiment in sorted(repository.root.glob("experiments/*.yml")):
            said = (repository.load(experiment) or {}).get("alerts", {"ring": []})
            for name in sorted({*(one["name"] for one in said["ring"]), *said.get("may", [])} - known.keys()):
                yield f"experiments/{experiment.name}: {name} is no alert"
