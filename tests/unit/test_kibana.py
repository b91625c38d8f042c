"""Role kibana, whose package only Elastic serves: everything it says is held against what is documented.

The documentation is Elastic's for 8.19: "Import saved objects", "Export saved objects", "Get Kibana's current status",
"Create a service account token", "Delete a service account token", "Authenticate a user", "Secure settings" (the
keystore) and the settings references (general, security, reporting, telemetry).
"""

from __future__ import annotations

import copy
import json
import re
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any

import jinja2
import jsonschema  # type: ignore[import-untyped]
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


def strict(properties: Json, *, optional: Json | None = None) -> Json:
    """Return the schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
REFERENCES = {
    "type": "array",
    "items": strict({"type": {"enum": ["tag", "visualization"]}, "id": TEXT, "name": TEXT}),
}
SEARCH_SOURCE = strict({"searchSourceJSON": TEXT})
ATTRIBUTES: dict[str, Json] = {
    "tag": strict(
        {"name": {"type": "string", "maxLength": 50}, "description": TEXT, "color": {"pattern": "^#[0-9A-F]{6}$"}}
    ),
    "index-pattern": strict({"title": TEXT, "name": TEXT, "timeFieldName": TEXT}),
    "visualization": strict(
        {
            "title": TEXT,
            "description": TEXT,
            "visState": TEXT,
            "uiStateJSON": TEXT,
            "version": {"const": 1},
            "kibanaSavedObjectMeta": SEARCH_SOURCE,
        }
    ),
    "dashboard": strict(
        {
            "title": TEXT,
            "description": TEXT,
            "panelsJSON": TEXT,
            "optionsJSON": TEXT,
            "timeRestore": {"type": "boolean"},
            "timeFrom": TEXT,
            "timeTo": TEXT,
            "refreshInterval": strict({"pause": {"type": "boolean"}, "value": {"type": "integer"}}),
            "version": {"const": 1},
            "kibanaSavedObjectMeta": SEARCH_SOURCE,
        }
    ),
}
# What Kibana 8.19 itself exports; an import with a newer one than its own is refused.
NEWEST_VERSIONS = {"tag": (8, 0, 0), "index-pattern": (8, 0, 0), "visualization": (8, 5, 0), "dashboard": (10, 3, 0)}
VIS_STATE = strict({"title": TEXT, "type": {"const": "vega"}, "aggs": {"const": []}, "params": strict({"spec": TEXT})})
PANEL = strict(
    {
        "type": {"const": "visualization"},
        "panelIndex": TEXT,
        "panelRefName": TEXT,
        "gridData": strict(
            {
                "x": {"type": "integer", "minimum": 0, "maximum": 47},
                "y": {"type": "integer", "minimum": 0},
                "w": {"type": "integer", "minimum": 1, "maximum": 48},
                "h": {"type": "integer", "minimum": 1},
                "i": TEXT,
            }
        ),
        "embeddableConfig": strict({"hidePanelTitles": {"type": "boolean"}, "enhancements": {"const": {}}}),
    }
)


def check_object(one: Json) -> None:
    """Hold a saved object against the documented shape of its type."""
    shape = strict(
        {
            "type": {"enum": list(ATTRIBUTES)},
            "id": TEXT,
            "attributes": ATTRIBUTES[one["type"]],
            "references": REFERENCES,
            "coreMigrationVersion": {"const": "8.8.0"},
            "typeMigrationVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
            "managed": {"const": False},
        }
    )
    jsonschema.validate(one, shape)
    assert tuple(map(int, one["typeMigrationVersion"].split("."))) <= NEWEST_VERSIONS[one["type"]]
    meta = one["attributes"].get("kibanaSavedObjectMeta")
    if meta:
        wanted = {"query": {"query": "", "language": "kuery"}, "filter": []}
        assert json.loads(meta["searchSourceJSON"]) == wanted


def test_objects_have_the_documented_shapes() -> None:
    """Every attribute is one that Kibana knows, in the form in which it exports it."""
    assert [one["type"] for one in OBJECTS] == ["tag", "index-pattern", *["visualization"] * 9, "dashboard"]
    for one in OBJECTS:
        check_object(one)


def test_references_lead_to_objects_of_the_import() -> None:
    """Nothing points into the void, and nothing is there twice."""
    keys = [(one["type"], one["id"]) for one in OBJECTS]
    assert len(keys) == len(set(keys))
    for one in OBJECTS:
        assert {(reference["type"], reference["id"]) for reference in one["references"]} <= set(keys)


def test_visualizations_hold_the_specifications() -> None:
    """What Kibana draws is the panel's specification, with all that it needs."""
    for panel in DASHBOARD["panels"]:
        found = next(one for one in OBJECTS if one["id"] == f"polls-site-{panel['name']}")
        state = json.loads(found["attributes"]["visState"])
        jsonschema.validate(state, VIS_STATE)
        assert json.loads(state["params"]["spec"]) == panel["spec"]
        # For whoever opens Kibana's editor, with the land's coordinates out of the way.
        assert state["params"]["spec"].startswith('{\n  "')
        assert state["params"]["spec"].count("\n") < 2000


def test_dashboard_shows_every_panel() -> None:
    """Each panel has its place and refers to its visualization by the documented names."""
    found = OBJECTS[-1]
    panels = json.loads(found["attributes"]["panelsJSON"])
    references = {one["name"]: one["id"] for one in found["references"]}
    for panel, wanted in zip(panels, DASHBOARD["panels"], strict=True):
        jsonschema.validate(panel, PANEL)
        assert {**panel["gridData"], "i": None} == {**wanted["grid"], "i": None}
        assert panel["gridData"]["i"] == panel["panelIndex"]
        assert references[f"{panel['panelIndex']}:{panel['panelRefName']}"] == f"polls-site-{wanted['name']}"
    known = {"useMargins", "syncColors", "syncCursor", "syncTooltips", "hidePanelTitles"}
    assert json.loads(found["attributes"]["optionsJSON"]).keys() == known


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
        jsonschema.validate(
            body,
            strict(
                {"objects": {"type": "array", "minItems": 1, "items": strict({"type": TEXT, "id": TEXT})}},
                optional={"includeReferencesDeep": {"type": "boolean"}, "excludeExportDetails": {"type": "boolean"}},
            ),
        )
        keys = [(one["type"], one["id"]) for one in body["objects"]]
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
        for one in objects:
            check_object(one)
        if self.error:
            errors = [{"type": "dashboard", "id": "polls-site", "meta": {}, "error": self.error}]
            return 200, json.dumps({"success": False, "successCount": 11, "errors": errors}).encode()
        self.stored |= {(one["type"], one["id"]): one for one in objects}
        return 200, json.dumps({"success": True, "successCount": len(objects), "successResults": []}).encode()


def run_import(
    server: fake_server.Server, capsys: pytest.CaptureFixture[str], *, check: bool = False, **changed: object
) -> Json:
    """Run the module that imports and return its result."""
    arguments = {
        "url": server.url,
        "ca_file": str(server.certificate),
        "password": PASSWORD,
        "objects": OBJECTS,
        "timeout": 5,
        "_ansible_check_mode": check,
        **changed,
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        kibana_saved_objects.main()
    output = capsys.readouterr().out
    assert PASSWORD not in output
    result: Json = json.loads(output)
    return result


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr(kibana_saved_objects, "POLL_SECONDS", 0.01)


def test_import_only_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Waits, imports once, then leaves it; a change, a lost object or an empty Kibana is filled again."""
    kibana = Kibana()
    with fake_server.serve(tmp_path, kibana.answer, client_certificate=False) as server:
        assert run_import(server, capsys, check=True)["changed"]
        assert kibana.imports == 0
        first = run_import(server, capsys)
        assert first["changed"]
        assert first["reason"].startswith("missing: managed-by-ansible")
        assert len(kibana.stored) == len(OBJECTS)
        assert not run_import(server, capsys)["changed"]
        assert not run_import(server, capsys, check=True)["changed"]

        other = kibana_objects.kibana_objects([{**DASHBOARD, "title": "New"}], ["filebeat-*"])
        assert run_import(server, capsys, objects=other)["reason"] == "changed"
        assert kibana.stored["dashboard", "polls-site"]["attributes"]["title"] == "New"
        del kibana.stored["visualization", "polls-site-log-lines"]
        assert run_import(server, capsys, objects=other)["reason"] == "missing: polls-site-log-lines"
        kibana.stored.clear()
        assert run_import(server, capsys, objects=other)["changed"]
        assert kibana.imports == 4


def test_import_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused object, a wrong password, a Kibana that does not come up."""
    kibana = Kibana()
    kibana.error = {"type": "unsupported_type"}
    with fake_server.serve(tmp_path, kibana.answer, client_certificate=False) as server:
        message = run_import(server, capsys)["msg"]
        assert message.endswith("Kibana imported 11 of 12 objects; dashboard polls-site: unsupported_type")
        assert "refuses the password of user elastic" in run_import(server, capsys, password="wrong-password")["msg"]
        kibana.states = ["unavailable"]
        assert (
            f"not available after 0 s: GET {server.url}/api/status: 503" in run_import(server, capsys, timeout=0)["msg"]
        )
    assert "did not answer" in run_import(server, capsys, timeout=0)["msg"]
    assert "must start with https" in run_import(server, capsys, url="http://127.0.0.1:5601")["msg"]


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
        self.tokens[found[1]] = f"00{self.made}" if self.made % 2 else f"AAEAAWVsYXN0aWMva2liYW5h{self.made}"
        return 200, json.dumps({"created": True, "token": {"name": found[1], "value": self.tokens[found[1]]}}).encode()


def run_token(
    server: fake_server.Server, capsys: pytest.CaptureFixture[str], *, check: bool = False, **changed: object
) -> Json:
    """Run the module that keeps the token and return its result."""
    folder = server.certificate.parent
    program = folder / "kibana-keystore"
    program.write_text(KEYSTORE)
    program.chmod(0o700)
    arguments = {
        "elasticsearch_url": server.url,
        "elasticsearch_password": PASSWORD,
        "ca_file": str(server.certificate),
        "cert_file": str(server.certificate),
        "key_file": str(server.key),
        "name": "ansible-monitoring",
        "config_dir": str(folder),
        "program": str(program),
        "user": "",
        "_ansible_check_mode": check,
        **changed,
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        kibana_service_token.main()
    output = capsys.readouterr().out
    assert PASSWORD not in output
    assert "AAEAAW" not in output
    result: Json = json.loads(output)
    return result


def test_token_is_made_once_and_replaced_when_it_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One token, which goes to the keystore; a second run makes none; one that was taken away is made anew."""
    elasticsearch = Elasticsearch()
    keystore = tmp_path / "kibana.keystore"
    with fake_server.serve(tmp_path, elasticsearch.answer, client_certificate=True) as server:
        assert run_token(server, capsys, check=True)["changed"]
        assert not keystore.exists()
        assert run_token(server, capsys)["actions"] == ["make a token"]
        held = json.loads(keystore.read_text())["elasticsearch.serviceAccountToken"]
        assert held == elasticsearch.tokens["ansible-monitoring"] == "001"
        assert not run_token(server, capsys)["changed"]
        assert elasticsearch.made == 1

        elasticsearch.tokens.clear()
        assert run_token(server, capsys, check=True)["changed"]
        assert run_token(server, capsys)["actions"] == ["replace the token"]
        assert not run_token(server, capsys)["changed"]
        # The keystore is lost while Elasticsearch still knows a token of that name.
        keystore.unlink()
        assert run_token(server, capsys)["actions"] == ["make a token"]
        assert len(elasticsearch.tokens) == 1


def test_token_is_in_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the keystore's tool prints before it fails may be the token."""
    (tmp_path / "kibana.keystore").write_text('{"elasticsearch.serviceAccountToken": "AAEAAWVsYXN0aWM"}')
    (tmp_path / "kibana.keystore.broken").touch()
    with fake_server.serve(tmp_path, Elasticsearch().answer, client_certificate=True) as server:
        message = run_token(server, capsys)["msg"]
    assert message.endswith("/kibana-keystore show elasticsearch.serviceAccountToken: exit code 1: cannot be read")


def test_token_with_a_wrong_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Elasticsearch's own reason, in a line."""
    with fake_server.serve(tmp_path, Elasticsearch().answer, client_certificate=True) as server:
        message = run_token(server, capsys, elasticsearch_password="wrong-password")["msg"]
    path = "/_security/service/elastic/kibana/credential/token/ansible-monitoring"
    assert message == f"kibana_service_token: DELETE {server.url}{path}: 401 unable to authenticate"


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
