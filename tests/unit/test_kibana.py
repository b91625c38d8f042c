"""Role kibana, whose package only Elastic serves: everything it says is held against what is documented.

The documentation is Elastic's for 8.19: "Import saved objects", "Export saved objects", "Get Kibana's current status",
"Create a service account token", "Delete a service account token", "Authenticate a user", "Secure settings" (the
keystore) and the settings references (general, security, reporting, telemetry).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.filter.core import FilterModule

from plugins.filter.read_dashboard import read_dashboard
from tests.unit import fake_server
from tests.unit.load import load

REPOSITORY = Path(__file__).resolve().parents[2]
ROLE = REPOSITORY / "roles/kibana"

Json = dict[str, Any]


load("plugins/module_utils/https_api.py")
kibana_service_token = load("plugins/modules/kibana_service_token.py")
kibana_saved_objects = load("plugins/modules/kibana_saved_objects.py")
kibana_objects = load("plugins/filter/kibana_objects.py")

DASHBOARD: Json = read_dashboard("dashboards/site.yml")
OBJECTS: list[Json] = kibana_objects.kibana_objects([DASHBOARD], ["filebeat-*"])

PASSWORD = "password-of-elastic"
BASIC = "Basic ZWxhc3RpYzpwYXNzd29yZC1vZi1lbGFzdGlj"


# Saved objects


def decoded(node: Any, key: str = "") -> Any:
    """Return ``node`` with the JSON that Kibana keeps as text within JSON read."""
    if isinstance(node, str) and (key.endswith("JSON") or key in {"visState", "spec"}):
        return decoded(json.loads(node))
    if isinstance(node, list):
        return [decoded(item) for item in node]
    return {name: decoded(value, name) for name, value in node.items()} if isinstance(node, dict) else node


def exported(kind: str, identifier: str, version: str, attributes: Json, references: list[Json]) -> Json:
    """Return a saved object as Kibana 8.19 exports one; of a newer version than its own it would refuse it."""
    head = {"type": kind, "id": identifier, "typeMigrationVersion": version, "coreMigrationVersion": "8.8.0"}
    return {**head, "managed": False, "attributes": attributes, "references": references}


TAGGED = {"type": "tag", "id": "managed-by-ansible", "name": "tag-ref-managed-by-ansible"}
UNFILTERED = {"searchSourceJSON": {"query": {"query": "", "language": "kuery"}, "filter": []}}


def test_objects_are_as_kibana_exports_them() -> None:
    """Every attribute is one that Kibana knows; nothing points into the void, nothing is there twice."""
    tag, view, *visualizations, dashboard = (decoded(one) for one in OBJECTS)
    panels = DASHBOARD["panels"]
    assert re.search(r"the next import overwrites changes\. sha256:[0-9a-f]{64}$", tag["attributes"].pop("description"))
    assert tag == exported("tag", "managed-by-ansible", "8.0.0", {"name": "managed by Ansible", "color": "#0072B2"}, [])
    attributes = {"title": "filebeat-*", "name": "filebeat-*", "timeFieldName": "@timestamp"}
    assert view == exported("index-pattern", "filebeat-*", "8.0.0", attributes, [])
    assert visualizations == [
        exported(
            "visualization",
            f"polls-site-{panel['name']}",
            "8.5.0",
            {
                "title": f"Polls site: {panel['title']}",
                "description": panel["description"],
                "visState": {"title": panel["title"], "type": "vega", "aggs": [], "params": {"spec": panel["spec"]}},
                "uiStateJSON": {},
                "version": 1,
                "kibanaSavedObjectMeta": UNFILTERED,
            },
            [TAGGED],
        )
        for panel in panels
    ]
    assert dashboard == exported(
        "dashboard",
        "polls-site",
        "8.9.0",
        {
            "title": "Polls site",
            "description": DASHBOARD["description"],
            "panelsJSON": [
                {
                    "type": "visualization",
                    "panelIndex": panel["name"],
                    "panelRefName": f"panel_{panel['name']}",
                    "gridData": {**panel["grid"], "i": panel["name"]},
                    "embeddableConfig": {"hidePanelTitles": True, "enhancements": {}},
                }
                for panel in panels
            ],
            "optionsJSON": {
                "useMargins": True,
                "syncColors": False,
                "syncCursor": True,
                "syncTooltips": False,
                "hidePanelTitles": False,
            },
            "timeRestore": True,
            "timeFrom": "now-1h",
            "timeTo": "now",
            "refreshInterval": {"pause": False, "value": 60000},
            "version": 1,
            "kibanaSavedObjectMeta": UNFILTERED,
        },
        [
            *(
                {"type": "visualization", "id": f"polls-site-{name}", "name": f"{name}:panel_{name}"}
                for name in (panel["name"] for panel in panels)
            ),
            TAGGED,
        ],
    )


def test_specifications_are_readable() -> None:
    """For whoever opens Kibana's editor they are indented, with the land's coordinates out of the way."""
    for one in OBJECTS[2:-1]:
        spec = json.loads(one["attributes"]["visState"])["params"]["spec"]
        assert spec.startswith('{\n  "')
        assert spec.count("\n") < 2000


def test_the_checksum_is_that_of_everything() -> None:
    """The same input makes the same objects; any change shows in the tag."""
    again = kibana_objects.kibana_objects([copy.deepcopy(DASHBOARD)], ["filebeat-*"])
    assert again == OBJECTS
    changed = copy.deepcopy(DASHBOARD)
    changed["panels"][3]["grid"]["h"] += 1
    described = {
        text["attributes"]["description"]
        for text in (
            OBJECTS[0],
            kibana_objects.kibana_objects([changed], ["filebeat-*"])[0],
            kibana_objects.kibana_objects([DASHBOARD], ["filebeat-*", "other-*"])[0],
            kibana_objects.kibana_objects([], ["filebeat-*"])[0],
        )
    }
    assert len(described) == 4


# Kibana's API


class Kibana:
    """As much of Kibana's API as the module calls, strict about each request."""

    def __init__(self) -> None:
        """Begin with no objects, available at the third question."""
        self.stored: dict[tuple[str, str], Json] = {}
        self.states = ["", "unavailable", "degraded"]
        self.imports = 0
        self.error: Json | None = None

    def answer(self, request: fake_server.Request) -> fake_server.Answer:
        """Answer a request, or fail the test over it."""
        assert request.headers["kbn-xsrf"]
        if (request.method, request.path, request.query) == ("GET", "/api/status", ""):
            # Whoever asks is told the level.
            return self.status()
        if request.headers["authorization"] != BASIC:
            return 401, b'{"statusCode":401,"error":"Unauthorized","message":"Unauthorized"}'
        match request.method, request.path, request.query:
            case "POST", "/api/saved_objects/_export", "":
                return self.give(request)
            case "POST", "/api/saved_objects/_import", "overwrite=true":
                return self.take(request)
        raise AssertionError(request)

    def status(self) -> fake_server.Answer:
        """Answer as at the start: first in plain text, then with a level that rises."""
        state = self.states[0] if len(self.states) == 1 else self.states.pop(0)
        if not state:
            return 503, b"Kibana server is not ready yet"
        status = 200 if state in {"available", "degraded"} else 503
        return status, json.dumps({"status": {"overall": {"level": state, "summary": "x"}}}).encode()

    def give(self, request: fake_server.Request) -> fake_server.Answer:
        """Export objects, one a line, or name those that are missing."""
        assert request.headers["content-type"] == "application/json"
        body = json.loads(request.body)
        keys = [(one["type"], one["id"]) for one in body["objects"]]
        wanted = [{"type": kind, "id": identifier} for kind, identifier in keys]
        assert body == {"objects": wanted, "excludeExportDetails": True}
        missing = [
            {"type": kind, "id": identifier, "error": {"statusCode": 404, "error": "Not Found", "message": "-"}}
            for kind, identifier in keys
            if (kind, identifier) not in self.stored
        ]
        if missing:
            error = {"statusCode": 400, "error": "Bad Request", "message": "Error fetching objects to export"}
            return 400, json.dumps({**error, "attributes": {"objects": missing}}).encode()
        # In no promised order.
        return 200, b"\n".join(json.dumps(self.stored[key]).encode() for key in reversed(keys))

    def take(self, request: fake_server.Request) -> fake_server.Answer:
        """Import a form's file of objects."""
        self.imports += 1
        form = message_from_bytes(
            f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + request.body, policy=HTTP
        )
        assert form.get_content_type() == "multipart/form-data"
        (part,) = form.iter_parts()
        assert part.get_param("name", header="content-disposition") == "file"
        assert str(part.get_filename()).endswith(".ndjson")
        objects = [json.loads(line) for line in bytes(part.get_payload(decode=True)).splitlines()]
        if self.error:
            errors = [{"type": "dashboard", "id": "polls-site", "meta": {}, "error": self.error}]
            return 200, json.dumps({"success": False, "successCount": 11, "errors": errors}).encode()
        self.stored |= {(one["type"], one["id"]): one for one in objects}
        return 200, json.dumps({"success": True, "successCount": len(objects), "successResults": []}).encode()


Run = Callable[..., Json]
CHECK = {"_ansible_check_mode": True}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a module and returns its result, in which no secret is."""

    def started(module: ModuleType, arguments: Json) -> Json:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        output = capsys.readouterr().out
        assert PASSWORD not in output
        assert "AAEAAW" not in output
        result: Json = json.loads(output)
        return result

    return started


@pytest.fixture
def kibana() -> Kibana:
    """Return a Kibana that starts."""
    return Kibana()


@pytest.fixture
def importing(kibana: Kibana, tmp_path: Path, run: Run) -> Iterator[Run]:
    """Return what runs the module that imports, against that Kibana."""
    with fake_server.serve(tmp_path, kibana.answer, client_certificate=False) as server:
        arguments = {
            "url": server.url,
            "ca_file": str(server.certificate),
            "password": PASSWORD,
            "objects": OBJECTS,
            "timeout": 5,
        }
        yield lambda **changed: run(kibana_saved_objects, {**arguments, **changed})


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr(kibana_saved_objects, "POLL_SECONDS", 0.01)


def test_import_only_what_changed(kibana: Kibana, importing: Run) -> None:
    """Waits, imports once, then leaves it; a change, a lost object or an empty Kibana is filled again."""
    assert importing(**CHECK)["changed"]
    assert kibana.imports == 0
    first = importing()
    assert first["changed"]
    assert first["reason"].startswith("missing: managed-by-ansible")
    assert sorted(kibana.stored) == sorted((one["type"], one["id"]) for one in OBJECTS)
    assert all(kibana.stored[one["type"], one["id"]] == one for one in OBJECTS)
    assert not importing()["changed"]
    assert not importing(**CHECK)["changed"]

    other = kibana_objects.kibana_objects([{**DASHBOARD, "title": "New"}], ["filebeat-*"])
    assert importing(objects=other)["reason"] == "changed"
    assert kibana.stored["dashboard", "polls-site"]["attributes"]["title"] == "New"
    del kibana.stored["visualization", "polls-site-log-lines"]
    assert importing(objects=other)["reason"] == "missing: polls-site-log-lines"
    kibana.stored.clear()
    assert importing(objects=other)["changed"]
    assert kibana.imports == 4


@pytest.mark.parametrize(
    ("changed", "states", "message"),
    [
        ({}, ["available"], "Kibana imported 11 of 12 objects; dashboard polls-site: unsupported_type"),
        ({"password": "wrong-password"}, ["available"], "Kibana refuses the password of user elastic"),
        ({"timeout": 0}, ["unavailable"], "Kibana is not available after 0 s: GET https://.*/api/status: 503 .*"),
        ({"timeout": 0, "url": "https://127.0.0.1:9"}, ["available"], "Kibana is not available .* did not answer.*"),
        ({"url": "http://127.0.0.1:5601"}, ["available"], ".* must start with https.*"),
    ],
)
def test_import_that_fails_says_why(
    kibana: Kibana, importing: Run, changed: Json, states: list[str], message: str
) -> None:
    """A refused object, a wrong password, a Kibana that does not come up."""
    kibana.states = states
    kibana.error = {"type": "unsupported_type"}
    assert re.fullmatch(f"kibana_saved_objects: {message}", importing(**changed)["msg"])


# The token

KEYSTORE = """#!/usr/bin/env python3
# As Kibana's own tool, of which it knows the documented commands only.
import json, os, sys
print("Kibana is currently running with legacy OpenSSL providers enabled! For details see the documentation")
path = os.environ["KBN_PATH_CONF"] + "/kibana.keystore"
match sys.argv[1:]:
    case ["create"]:
        json.dump({}, open(path, "x"))
    case ["list"]:
        print("\\n".join(json.load(open(path))))
    case ["show", key]:
        if os.path.exists(path + ".broken"):
            print(json.load(open(path))[key])
            sys.exit("cannot be read")
        value = json.load(open(path))[key]
        print(value if isinstance(value, str) else json.dumps(value))
    case ["add", key, "--stdin", "--force"]:
        held = json.load(open(path))
        value = sys.stdin.read().strip()
        try:
            value = json.loads(value)
        except ValueError:
            pass
        json.dump({**held, key: value}, open(path, "w"))
    case _:
        sys.exit(f"unknown: {sys.argv}")
"""


class Elasticsearch:
    """As much of Elasticsearch's security API as the module calls."""

    def __init__(self) -> None:
        """Begin with no tokens."""
        self.tokens: dict[str, str] = {}
        self.made = 0

    def answer(self, request: fake_server.Request) -> fake_server.Answer:
        """Answer a request, or fail the test over it."""
        assert not request.query
        assert not request.body
        kind, _, value = request.headers["authorization"].partition(" ")
        if (request.method, request.path) == ("GET", "/_security/_authenticate"):
            assert kind == "Bearer"
            if value not in self.tokens.values():
                return 401, b'{"error":{"type":"security_exception","reason":"-"},"status":401}'
            return 200, b'{"username":"elastic/kibana","roles":[],"enabled":true}'
        if request.headers["authorization"] != BASIC:
            return 401, b'{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}'
        found = re.fullmatch(r"/_security/service/elastic/kibana/credential/token/([A-Za-z0-9-]+)", request.path)
        assert found, request.path
        if request.method == "DELETE":
            gone = self.tokens.pop(found[1], None)
            return (200, b'{"found":true}') if gone else (404, b'{"found":false}')
        assert request.method == "POST"
        assert found[1] not in self.tokens
        self.made += 1
        # Digits, which the keystore's tool would take for a number were they not quoted.
        self.tokens[found[1]] = f"10{self.made}" if self.made % 2 else f"AAEAAWVsYXN0aWMva2liYW5h{self.made}"
        return 200, json.dumps({"created": True, "token": {"name": found[1], "value": self.tokens[found[1]]}}).encode()


@pytest.fixture
def elasticsearch() -> Elasticsearch:
    """Return an Elasticsearch without tokens."""
    return Elasticsearch()


@pytest.fixture
def keeping(elasticsearch: Elasticsearch, tmp_path: Path, run: Run) -> Iterator[Run]:
    """Return what runs the module that keeps the token, against that Elasticsearch."""
    program = tmp_path / "kibana-keystore"
    program.write_text(KEYSTORE)
    program.chmod(0o700)
    with fake_server.serve(tmp_path, elasticsearch.answer, client_certificate=True) as server:
        arguments = {
            "elasticsearch_url": server.url,
            "elasticsearch_password": PASSWORD,
            **server.files,
            "name": "ansible-monitoring",
            "config_dir": str(tmp_path),
            "program": str(program),
            "user": "",
        }
        yield lambda **changed: run(kibana_service_token, {**arguments, **changed})


def test_token_is_made_once_and_replaced_when_it_fails(
    elasticsearch: Elasticsearch, keeping: Run, tmp_path: Path
) -> None:
    """One token, which goes to the keystore; a second run makes none; one that was taken away is made anew."""
    keystore = tmp_path / "kibana.keystore"
    assert keeping(**CHECK)["changed"]
    assert not keystore.exists()
    assert keeping()["actions"] == ["make a token"]
    held = json.loads(keystore.read_text())["elasticsearch.serviceAccountToken"]
    assert held == elasticsearch.tokens["ansible-monitoring"] == "101"
    assert not keeping()["changed"]
    assert elasticsearch.made == 1

    elasticsearch.tokens.clear()
    assert keeping(**CHECK)["changed"]
    assert keeping()["actions"] == ["replace the token"]
    assert not keeping()["changed"]
    # The keystore is lost while Elasticsearch still knows a token of that name.
    keystore.unlink()
    assert keeping()["actions"] == ["make a token"]
    assert len(elasticsearch.tokens) == 1


def test_token_is_in_no_error(keeping: Run, tmp_path: Path) -> None:
    """What the keystore's tool prints before it fails may be the token."""
    (tmp_path / "kibana.keystore").write_text('{"elasticsearch.serviceAccountToken": "AAEAAWVsYXN0aWM"}')
    (tmp_path / "kibana.keystore.broken").touch()
    message = keeping()["msg"]
    assert message.endswith("/kibana-keystore show elasticsearch.serviceAccountToken: exit code 1: cannot be read")


def test_token_with_a_wrong_password(keeping: Run) -> None:
    """Elasticsearch's own reason, in a line."""
    path = "/_security/service/elastic/kibana/credential/token/ansible-monitoring"
    message = f"kibana_service_token: DELETE https://127[^/]*{path}: 401 unable to authenticate"
    assert re.fullmatch(message, keeping(elasticsearch_password="wrong-password")["msg"])


# The configuration

# By the settings references of 8.19 (general, telemetry, Fleet, APM, security, reporting), without the encryption keys.
SETTINGS = {
    "server.name": "monitoring",
    "server.host": "192.0.2.14",
    "server.port": 5601,
    "server.publicBaseUrl": "https://192.0.2.14:5601",
    "server.ssl.enabled": True,
    "server.ssl.certificate": "/etc/ssl/site/host.crt",
    "server.ssl.key": "/etc/ssl/site/host.key",
    "path.data": "/var/lib/kibana",
    "elasticsearch.hosts": ["https://192.0.2.14:9200"],
    "elasticsearch.ssl.certificateAuthorities": ["/etc/ssl/site/ca.crt"],
    "elasticsearch.ssl.verificationMode": "full",
    "elasticsearch.ssl.certificate": "/etc/ssl/site/host.crt",
    "elasticsearch.ssl.key": "/etc/ssl/site/host.key",
    "elasticsearch.ssl.alwaysPresentCertificate": True,
    # Nothing is asked of Elastic or told to it.
    "telemetry.optIn": False,
    "telemetry.allowChangingOptInStatus": False,
    "newsfeed.enabled": False,
    "map.includeElasticMapsService": False,
    "xpack.fleet.isAirGapped": True,
    "xpack.apm.latestAgentVersionsUrl": "",
}
KEYS = {
    "xpack.security.encryptionKey",
    "xpack.encryptedSavedObjects.encryptionKey",
    "xpack.reporting.encryptionKey",
}


def render(name: str, **variables: object) -> str:
    """Return a template of the role with its defaults."""
    environment = jinja2.Environment(
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML
    )
    environment.filters.update(FilterModule().filters())
    values: Json = {
        "ansible_managed": "Ansible managed",
        "inventory_hostname": "monitoring",
        "kibana_tls_dir": "/etc/ssl/site",
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text("utf-8")),
        "kibana_address": "192.0.2.14",
        "kibana_public_url": "https://192.0.2.14:5601",
        "kibana_elasticsearch_url": "https://192.0.2.14:9200",
        "kibana_encryption_secret": "s" * 64,
        **variables,
    }
    return environment.from_string((ROLE / "templates" / name).read_text("utf-8")).render(values)


def settings(secret: str) -> tuple[Json, Json]:
    """Return the settings with a secret, and apart from them the encryption keys."""
    found = yaml.safe_load(render("kibana.yml.j2", kibana_encryption_secret=secret * 64))
    return found, {name: found.pop(name) for name in KEYS}


def test_settings_are_documented_ones() -> None:
    """Kibana does not start with a setting that it does not know."""
    assert settings("s")[0] == SETTINGS


def test_keys_are_long_and_differ() -> None:
    """Each key has the 32 characters that Kibana asks for; none tells another or the secret."""
    keys = [str(key) for secret in "st" for key in settings(secret)[1].values()]
    assert len(set(keys)) == 6
    assert all(len(key) >= 32 for key in keys)
    assert "sss" not in render("kibana.yml.j2")


def test_unit() -> None:
    """Memory is capped by the environment, as Node.js has it; starting is never given up."""
    assert "\n[Unit]\nStartLimitIntervalSec=0\n" in render("unit.conf.j2")
    assert "Environment=NODE_OPTIONS=--max-old-space-size=400\n" in render("unit.conf.j2")
    assert "=512\n" in render("unit.conf.j2", kibana_heap_mb=512)
