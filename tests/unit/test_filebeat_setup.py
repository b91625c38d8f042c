"""The module that sets up Filebeat in Elasticsearch, and the data of its role."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.unit import fake_server
from tests.unit.load import load

ROLE = Path(__file__).resolve().parents[2] / "roles/filebeat"


https_api = load("plugins/module_utils/https_api.py")
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


class Elasticsearch:
    """As much of Elasticsearch as the module asks, filled by what `filebeat setup` would put there."""

    def __init__(self, number: str = "6.8.23") -> None:
        """Begin with a policy and nothing else."""
        self.things: dict[str, Any] = {
            "/": {"version": {"number": number}},
            "/_ilm/policy/logs": {"logs": {}},
        }
        self.put: list[str] = []

    def ask(self, path: str, method: str = "GET") -> Any:
        """Return what is there, or create a data stream."""
        if method == "PUT":
            self.put.append(path)
            self.things[path] = {"acknowledged": True}
        else:
            assert method == "GET"
        return self.things.get(path)

    def set_up(self, version: str, *, replicas: str = "0", stream: bool = False) -> None:
        """Put what Filebeat's set-up puts, in the shape in which that major answers."""
        name = f"filebeat-{version}"
        settings = {"index": {"lifecycle": {"name": "logs"}, "number_of_replicas": replicas}}
        backend = {"properties": {"backend": {"type": "keyword"}}}
        mappings = {"properties": {"nginx": {"properties": {"upstream": backend}}}}
        if stream:
            body = {"template": {"settings": settings, "mappings": mappings}}
            self.things[f"/_index_template/{name}"] = {"index_templates": [{"index_template": body}]}
        else:
            # Version 6 names the type of the document.
            self.things[f"/_template/{name}"] = {name: {"settings": settings, "mappings": {"doc": mappings}}}
            self.things[f"/_alias/{name}"] = {f"{name}-000001": {}}
        for fileset in ("access", "error"):
            self.things[f"/_ingest/pipeline/{name}-nginx-{fileset}-*"] = {"a pipeline": {}}


@pytest.fixture
def elasticsearch(monkeypatch: pytest.MonkeyPatch) -> Elasticsearch:
    """Put a fake in the place of the servers."""
    fake = Elasticsearch()
    monkeypatch.setattr(filebeat_setup, "Elasticsearch", lambda *_: fake)
    return fake


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, elasticsearch: Elasticsearch) -> list[dict[str, Any]]:
    """Let `filebeat setup` succeed, and keep its configurations."""
    seen: list[dict[str, Any]] = []

    def run(self: Any) -> None:
        seen.append(self.configuration())
        elasticsearch.set_up(self.options["version"], stream=self.options["data_stream"])

    monkeypatch.setattr(filebeat_setup.Setup, "run", run)
    return seen


def test_sets_up_once(runs: list[dict[str, Any]]) -> None:
    """The first run names what was missing, the second does nothing."""
    assert filebeat_setup.ensure(options(), check_mode=False) == [
        "index template filebeat-7.10.2",
        "alias filebeat-7.10.2",
        "pipeline of nginx.access",
        "pipeline of nginx.error",
    ]
    assert filebeat_setup.ensure(options(), check_mode=False) == []
    assert len(runs) == 1


def test_data_stream_exists_before_the_first_event(elasticsearch: Elasticsearch, runs: list[dict[str, Any]]) -> None:
    """Version 8 writes to a data stream, which is created where the set-up did not."""
    elasticsearch.things["/"] = {"version": {"number": "8.19.2"}}
    assert "data stream filebeat-8.19.2" in filebeat_setup.ensure(options("8.19.2"), check_mode=False)
    assert elasticsearch.put == ["/_data_stream/filebeat-8.19.2"]
    assert filebeat_setup.ensure(options("8.19.2"), check_mode=False) == []


def test_check_mode_only_tells(elasticsearch: Elasticsearch, runs: list[dict[str, Any]]) -> None:
    """Check mode asks and leaves Elasticsearch as it was."""
    assert filebeat_setup.ensure(options(), check_mode=True)
    assert runs == []


@pytest.mark.usefixtures("runs")
def test_wiped_elasticsearch_is_set_up_anew(elasticsearch: Elasticsearch) -> None:
    """What is there decides, not what was done once."""
    filebeat_setup.ensure(options(), check_mode=False)
    del elasticsearch.things["/_alias/filebeat-7.10.2"]
    assert filebeat_setup.ensure(options(), check_mode=False) == ["alias filebeat-7.10.2"]


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"index.number_of_replicas": 1}},
        {"fields": [{"name": "nginx.upstream.attempts", "type": "long"}]},
        {"fields": [{"name": "nginx.upstream.backend", "type": "text"}]},
    ],
)
@pytest.mark.usefixtures("runs")
def test_changed_template_is_seen(change: dict[str, Any]) -> None:
    """Settings and fields of ours are compared, whatever type their values are answered in."""
    filebeat_setup.ensure(options(), check_mode=False)
    assert filebeat_setup.ensure(options(**change), check_mode=True) == ["index template filebeat-7.10.2"]


def test_foreign_major_is_refused(elasticsearch: Elasticsearch) -> None:
    """One line names both versions and both options."""
    elasticsearch.things["/"] = {"version": {"number": "8.19.2"}}
    with pytest.raises(
        filebeat_setup.SetupError, match=r"7\.10\.2 \(filebeat_version\) works with Elasticsearch 6 or 7"
    ):
        filebeat_setup.ensure(options(), check_mode=False)


def test_missing_policy_is_refused(elasticsearch: Elasticsearch) -> None:
    """Filebeat would make a policy of its own, without an end."""
    del elasticsearch.things["/_ilm/policy/logs"]
    with pytest.raises(filebeat_setup.SetupError, match="filebeat_ilm_policy logs does not exist"):
        filebeat_setup.ensure(options(), check_mode=False)


def test_setup_that_leaves_something_out_is_an_error(
    elasticsearch: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success is what Elasticsearch shows."""
    monkeypatch.setattr(filebeat_setup.Setup, "run", lambda _: None)
    with pytest.raises(filebeat_setup.SetupError, match="left out: index template"):
        filebeat_setup.ensure(options(), check_mode=False)


def test_configuration_holds_no_password() -> None:
    """The set-up's password travels in the environment, and certificates are verified in full."""
    text = json.dumps(filebeat_setup.Setup(options(), Elasticsearch()).configuration())
    assert "s" * 16 not in text
    assert '"ssl.verification_mode": "full"' in text


class Connection:
    """A connection on which happens what the test says."""

    def __init__(self, outcome: Exception | tuple[int, bytes]) -> None:
        """Raise or answer ``outcome``."""
        self.outcome = outcome

    def request(self, *_: Any) -> None:
        """Send a request, or fail to."""
        if isinstance(self.outcome, Exception):
            raise self.outcome

    def getresponse(self) -> Any:
        """Return the answer."""
        assert not isinstance(self.outcome, Exception)
        status, body = self.outcome
        return SimpleNamespace(status=status, read=lambda: body)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Exception | tuple[int, bytes]], Any]:
    """Make the module's client with a connection on which this happens."""
    certificate, key = fake_server.make_certificate(tmp_path)
    files = {"ca_file": str(certificate), "cert_file": str(certificate), "key_file": str(key)}

    def make(outcome: Exception | tuple[int, bytes]) -> Any:
        monkeypatch.setattr(https_api, "HTTPSConnection", lambda *_, **__: Connection(outcome))
        return filebeat_setup.Elasticsearch(options(**files), "filebeat_writer", "w" * 16, "filebeat_writer_password")

    return make


def alert(reason: str) -> ssl.SSLError:
    """Return OpenSSL's error for an alert of the other side."""
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower().replace('_', ' ')} (_ssl.c:1)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (
            alert("SSLV3_ALERT_CERTIFICATE_EXPIRED"),
            r"refuses our certificate, filebeat_tls_dir /.*host\.crt \(expired, or",
        ),
        (
            alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            r"refuses our certificate, filebeat_tls_dir /.*host\.crt \(expired, or",
        ),
        ((401, b"{}"), "filebeat_writer_password is not the password"),
        ((403, b"{}"), "may not read /x"),
        (ConnectionRefusedError(111, "Connection refused"), "filebeat_elasticsearch_hosts: https://192.0.2.14:9200"),
        (TimeoutError(), "did not answer: TimeoutError"),
    ],
)
def test_what_does_not_fit_is_named(client: Any, outcome: Exception | tuple[int, bytes], expected: str) -> None:
    """Each in one line with the option to look at."""
    with pytest.raises(filebeat_setup.SetupError, match=expected) as caught:
        client(outcome).ask("/x")
    assert "\n" not in str(caught.value)


def test_certificate_of_the_server_is_named(client: Any) -> None:
    """An expired or foreign certificate of Elasticsearch."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    with pytest.raises(
        filebeat_setup.SetupError, match=r"is refused \(certificate has expired\) by filebeat_tls_dir /"
    ):
        client(error).ask("/")


def test_missing_authority_is_named(tmp_path: Path) -> None:
    """A file that is not there."""
    with pytest.raises(filebeat_setup.SetupError, match="filebeat_tls_dir"):
        filebeat_setup.Elasticsearch(options(ca_file=str(tmp_path / "none")), "u", "p", "o")


def test_versions_define_the_same_data() -> None:
    """One path of tasks: whatever one version says, the other says too."""
    seven, eight = (yaml.safe_load((ROLE / f"vars/{major}.yml").read_text("utf-8")) for major in (7, 8))
    assert seven.keys() == eight.keys()
