"""The module that sets up Filebeat in Elasticsearch, and the data of its role."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit import fake_server
from tests.unit.load import load

ROLE = Path(__file__).resolve().parents[2] / "roles/filebeat"
ALIAS = "/_alias/filebeat-7.10.2"

load("plugins/module_utils/https_api.py")
filebeat_setup = load("plugins/modules/filebeat_setup.py")


def options(version: str = "7.10.2", **changes: Any) -> dict[str, Any]:
    """Return what the role passes."""
    return {
        "hosts": ["https://192.0.2.14:9200"],
        "ca_file": "/ca",
        "cert_file": "/cert",
        "key_file": "/key",
        "writer_user": "filebeat_writer",
        "writer_password": "w" * 16,
        "setup_user": "filebeat_setup",
        "setup_password": "s" * 16,
        "program": "/usr/share/filebeat/bin/filebeat",
        "version": version,
        "majors": [6, 7] if version.startswith("7") else [8],
        "data_stream": version.startswith("8"),
        "modules": {"nginx": ["access", "error"]},
        "policy": "logs",
        "settings": {"index.number_of_replicas": 0},
        "fields": [{"name": "nginx.upstream.backend", "type": "keyword"}],
    } | changes


def made_by_setup(version: str) -> dict[str, Any]:
    """Return what Filebeat's set-up puts where, in the shape in which that major answers."""
    name = f"filebeat-{version}"
    backend = {"properties": {"backend": {"type": "keyword"}}}
    mappings = {"properties": {"nginx": {"properties": {"upstream": backend}}}}
    template = {"settings": {"index": {"lifecycle": {"name": "logs"}, "number_of_replicas": "0"}}, "mappings": mappings}
    made: dict[str, Any] = {
        f"/_ingest/pipeline/{name}-nginx-{fileset}-*": {"a pipeline": {}} for fileset in ("access", "error")
    }
    if version.startswith("8"):
        return made | {f"/_index_template/{name}": {"index_templates": [{"index_template": {"template": template}}]}}
    # Version 6 names the type of the document.
    template["mappings"] = {"doc": mappings}
    alias = {f"{name}-2026.01.01-000001": {"aliases": {name: {"is_write_index": True}}}}
    return made | {f"/_template/{name}": {name: template}, f"/_alias/{name}": alias}


class Site:
    """An Elasticsearch as the module asks it, and a Filebeat that sets it up, both in memory."""

    def __init__(self, version: str) -> None:
        """Begin with a policy and nothing else."""
        self.things: dict[str, Any] = {
            "/": {"version": {"number": "6.8.23" if version.startswith("7") else version}},
            "/_ilm/policy/logs": {"logs": {}},
        }
        self.version = version
        self.made = made_by_setup(version)
        self.code = 0
        self.runs: list[str] = []

    def ask(self, path: str, method: str = "GET", content: Any = None) -> Any:
        """Return what is there, or create a data stream or an index."""
        if method == "PUT":
            self.things[path] = {"acknowledged": True}
            if content:
                self.things[ALIAS][path] = content
        return self.things.get(path)

    def run(self, command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        """Set up as `filebeat setup` does, and keep what it was given but by the environment."""
        assert env["FILEBEAT_SETUP_PASSWORD"] == "s" * 16
        configuration = Path(command[command.index("-c") + 1]).read_text("utf-8")
        self.runs.append(f"{command} {configuration}")
        if not self.code:
            self.things |= self.made
        return subprocess.CompletedProcess(command, self.code, "", "Loading\nExiting: no luck\n")


@pytest.fixture
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Put a site, of Filebeat 7.10.2 or another version, in the place of Elasticsearch's client and Filebeat."""
    fake = Site(getattr(request, "param", "7.10.2"))
    monkeypatch.setattr(filebeat_setup, "Elasticsearch", lambda *_: fake)
    monkeypatch.setattr(filebeat_setup.subprocess, "run", fake.run)
    return fake


@pytest.mark.parametrize(("site", "place"), [("7.10.2", "alias"), ("8.19.2", "data stream")], indirect=["site"])
def test_sets_up_once(site: Site, place: str) -> None:
    """The first run names what is missing, as check mode does without doing it; the second does nothing.

    Version 8 writes to a data stream, which is created before the first event.
    """
    version = site.version
    missing = [f"index template filebeat-{version}", f"{place} filebeat-{version}"]
    missing += ["pipeline of nginx.access", "pipeline of nginx.error"]
    assert filebeat_setup.ensure(options(version), check_mode=True) == missing
    assert site.runs == []
    assert filebeat_setup.ensure(options(version), check_mode=False) == missing
    assert filebeat_setup.ensure(options(version), check_mode=False) == []
    (given,) = site.runs
    assert "s" * 16 not in given
    assert '"ssl.verification_mode": "full"' in given
    assert (f"/_data_stream/filebeat-{version}" in site.things) == (place == "data stream")
    # What is there decides, not what was done once.
    del site.things[f"/_ingest/pipeline/filebeat-{version}-nginx-error-*"]
    assert filebeat_setup.ensure(options(version), check_mode=False) == ["pipeline of nginx.error"]


def test_deleted_write_index_is_made_again(site: Site) -> None:
    """The older indices keep the alias, by which nothing can be written then; Filebeat's own set-up leaves that so."""
    filebeat_setup.ensure(options(), check_mode=False)
    old = {"aliases": {"filebeat-7.10.2": {"is_write_index": False}}}
    site.made[ALIAS] = site.things[ALIAS] = {f"filebeat-7.10.2-2026.01.01-00000{number}": old for number in (8, 9)}
    assert filebeat_setup.ensure(options(), check_mode=True) == ["alias filebeat-7.10.2"]
    assert filebeat_setup.ensure(options(), check_mode=False) == ["alias filebeat-7.10.2"]
    new = "/%3Cfilebeat-7.10.2-%7Bnow%2Fd%7D-000010%3E"
    assert site.things[ALIAS][new] == {"aliases": {"filebeat-7.10.2": {"is_write_index": True}}}
    assert filebeat_setup.ensure(options(), check_mode=False) == []


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"index.number_of_replicas": 1}},
        {"fields": [{"name": "nginx.upstream.attempts", "type": "long"}]},
        {"fields": [{"name": "nginx.upstream.backend", "type": "text"}]},
    ],
)
@pytest.mark.usefixtures("site")
def test_changed_template_is_seen(change: dict[str, Any]) -> None:
    """Settings and fields of ours are compared, whatever type their values are answered in."""
    filebeat_setup.ensure(options(), check_mode=False)
    assert filebeat_setup.ensure(options(**change), check_mode=True) == ["index template filebeat-7.10.2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda site: site.things.update({"/": {"version": {"number": "8.19.2"}}}),
            r"7\.10\.2 \(filebeat_version\) works with Elasticsearch 6 or 7, and \w+ has 8\.19\.2\.",
        ),
        # Filebeat would make a policy of its own, without an end.
        (lambda site: site.things.pop("/_ilm/policy/logs"), "filebeat_ilm_policy logs does not exist"),
        # Success is what Elasticsearch shows.
        (lambda site: site.made.pop(ALIAS), r"ended well and left out: alias filebeat-7\.10\.2\.$"),
        (lambda site: setattr(site, "code", 1), "^filebeat setup failed: Exiting: no luck$"),
    ],
)
def test_what_cannot_be_set_up_is_refused(site: Site, change: Any, message: str) -> None:
    """In one line, with what is wrong."""
    change(site)
    with pytest.raises(filebeat_setup.SetupError, match=message):
        filebeat_setup.ensure(options(), check_mode=False)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"asked": True}),
        (404, None),
        (401, "{url} refuses user u: password_option is not the password it has there."),
        (403, "user u may not read /x (HTTP 403); give it the role for that."),
        (500, "GET {url}/x: 500 why."),
    ],
)
def test_the_first_server_that_answers_decides(tmp_path: Path, status: int, answer: Any) -> None:
    """What does not fit is said in one line with the option to look at."""
    body = json.dumps(answer if status == 200 else {"error": "why"}).encode()
    with fake_server.serve(tmp_path, lambda _: (status, body), client_certificate=True) as server:
        given = options(**server.files, hosts=["https://127.0.0.1:9", server.url])
        try:
            found = filebeat_setup.Elasticsearch(given, "u", "p", "password_option").ask("/x")
        except filebeat_setup.SetupError as error:
            found = str(error).replace(server.url, "{url}")
    assert found == answer


def test_where_no_server_answers_all_are_named(tmp_path: Path) -> None:
    """A file or certificate that does not fit is no matter of the next server, and said at once."""
    certificate, key = map(str, fake_server.make_certificate(tmp_path))
    files = {"ca_file": certificate, "cert_file": certificate, "key_file": key}
    (tmp_path / "other").mkdir()
    with fake_server.serve(tmp_path / "other", lambda _: (200, b"{}"), client_certificate=True) as foreign:
        for host, changes, message in (
            ("https://127.0.0.1:9", {}, "^filebeat_elasticsearch_hosts: .*:9 did not answer: .*; .*:7 did not answer"),
            (foreign.url, {}, r"^the certificate of \S+ is refused \(.*\) by filebeat_tls_dir /"),
            (foreign.url, {"ca_file": "/none"}, "^filebeat_tls_dir /none"),
        ):
            given = options(**files | changes, hosts=[host, "https://127.0.0.1:7"])
            with pytest.raises(filebeat_setup.SetupError, match=message):
                filebeat_setup.Elasticsearch(given, "u", "p", "o").ask("/")


def test_versions_define_the_same_data() -> None:
    """One path of tasks: whatever one version says, the other says too."""
    seven, eight = (yaml.safe_load((ROLE / f"vars/{major}.yml").read_text("utf-8")) for major in (7, 8))
    assert seven.keys() == eight.keys()
