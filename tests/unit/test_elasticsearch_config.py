"""The role elasticsearch: what its templates and data make of the options, for both versions."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template

from tests.unit.elasticsearch_role import ROLE, VERSIONS, value, variables

THREE = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}


def render(template: str, major: str, **options: Any) -> str:
    """Return a template of the role as it is written to a host."""
    text = (ROLE / "templates" / template).read_text(encoding="utf-8")
    return str(variables(major, **options).template(trust_as_template(text), preserve_trailing_newlines=True))


def settings(major: str, **options: Any) -> dict[str, Any]:
    """Return elasticsearch.yml, read as Elasticsearch reads it."""
    loaded = yaml.safe_load(render("elasticsearch.yml.j2", major, **options))
    assert isinstance(loaded, dict)
    return loaded


# Settings of Elasticsearch 8.19 by the page of the reference that describes them, below
# https://www.elastic.co/guide/en/elasticsearch/reference/8.19/. It refuses to start with one that it does not know.
TLS = "certificate certificate_authorities client_authentication enabled key supported_protocols verification_mode"
DOCUMENTED_IN_8 = {
    "docs-index_.html": ["action.auto_create_index"],
    "geoip-processor.html": ["ingest.geoip.downloader.enabled"],
    "ilm-settings.html": ["indices.lifecycle.history_index_enabled", "indices.lifecycle.poll_interval"],
    "important-settings.html": ["cluster.name", "node.name", "path.data", "path.logs"],
    "index-modules-store.html": ["node.store.allow_mmap"],
    "license-settings.html": ["xpack.license.self_generated.type"],
    "ml-settings.html": ["xpack.ml.enabled"],
    "modules-cluster.html": [
        f"cluster.routing.allocation.disk.watermark.{name}" for name in ("low", "high", "flood_stage")
    ],
    "modules-discovery-settings.html": ["cluster.initial_master_nodes", "discovery.seed_hosts", "discovery.type"],
    "modules-network.html": ["http.port", "network.host", "network.publish_host", "transport.host", "transport.port"],
    "notification-settings.html": ["xpack.watcher.enabled"],
    "security-settings.html": [
        *(f"xpack.security.{name}" for name in ("autoconfiguration.enabled", "enabled", "enrollment.enabled")),
        *(f"xpack.security.{layer}.ssl.{name}" for layer in ("http", "transport") for name in TLS.split()),
    ],
    "snapshot-settings.html": ["slm.history_index_enabled"],
}


@pytest.mark.parametrize("members", [{"a": "192.0.2.1"}, THREE])
def test_version_8_gets_only_settings_it_knows(members: dict[str, str]) -> None:
    """A setting that is not documented would keep the node from starting."""
    assert settings("8", elasticsearch_members=members).keys() <= set(itertools.chain(*DOCUMENTED_IN_8.values()))


@pytest.mark.parametrize("major", VERSIONS)
def test_every_connection_is_encrypted_and_asks_for_a_certificate(major: str) -> None:
    """Both layers have TLS, and both ask the other side for its certificate."""
    found = settings(major)
    assert found["xpack.security.enabled"] is True
    for layer in ("http", "transport"):
        prefix = f"xpack.security.{layer}.ssl"
        assert found[f"{prefix}.enabled"] is True
        assert found[f"{prefix}.client_authentication"] == "required"
        assert set(found[f"{prefix}.supported_protocols"]) <= {"TLSv1.3", "TLSv1.2"}
    assert found["xpack.security.transport.ssl.verification_mode"] == "full"
    assert not [name for name in found if "anonymous" in name]


@pytest.mark.parametrize("major", VERSIONS)
def test_nothing_comes_into_being_by_being_written_to(major: str) -> None:
    """An index of logs that is missing is an error, not a new index with guessed fields."""
    assert settings(major)["action.auto_create_index"] == ".*"


@pytest.mark.parametrize("major", VERSIONS)
def test_the_guards_marks_lie_below_elasticsearchs_own(major: str) -> None:
    """Else Elasticsearch acts first, with the answer that makes Filebeat drop events."""
    found = settings(major)
    marks = [
        int(found[f"cluster.routing.allocation.disk.watermark.{name}"].rstrip("%"))
        for name in ("low", "high", "flood_stage")
    ]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert defaults["elasticsearch_disk_high_percent"] < defaults["elasticsearch_disk_stop_percent"] <= marks[0]
    assert marks == sorted(set(marks))


@pytest.mark.parametrize("major", VERSIONS)
def test_one_member_is_a_single_node(major: str) -> None:
    """It looks for nobody."""
    found = settings(major)
    assert found["discovery.type"] == "single-node"
    assert not [name for name in found if "seed_hosts" in name or "zen" in name or "initial_master" in name]
    assert found["network.host"] == ["192.0.2.1", "127.0.0.1"]


def test_three_members_are_a_cluster_in_both_versions() -> None:
    """Version 6 counts the majority from a setting, version 8 by itself."""
    six = settings("6", elasticsearch_members=THREE)
    assert six["discovery.zen.ping.unicast.hosts"] == list(THREE.values())
    eight = settings("8", elasticsearch_members=THREE)
    assert eight["discovery.seed_hosts"] == list(THREE.values())
    assert eight["cluster.initial_master_nodes"] == list(THREE)
    for found in (six, eight):
        assert "discovery.type" not in found


@pytest.mark.parametrize(("count", "majority"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_version_6_needs_more_than_half(count: int, majority: int) -> None:
    """Fewer would let two halves each have a master."""
    members = {f"n{number}": f"192.0.2.{number}" for number in range(1, count)} | {"a": "192.0.2.99"}
    assert settings("6", elasticsearch_members=members)["discovery.zen.minimum_master_nodes"] == majority


@pytest.mark.parametrize("major", VERSIONS)
@pytest.mark.parametrize(
    ("template", "pattern", "found"),
    [
        # Both ends of the heap are the same, and the files of its collector's log are few and small.
        ("jvm.options.j2", "^-Xm[sx].*$", ["-Xms700m", "-Xmx700m"]),
        ("jvm.options.j2", r"^-Xlog:gc\S*:(filecount.*)$", ["filecount=4,filesize=8m"]),
        # It comes back whatever happens, may write to two folders, and is bounded in memory.
        ("unit.conf.j2", "^(?:Restart|MemoryMax|ProtectSystem)=(.*)$", ["always", "2424M", "strict"]),
        ("unit.conf.j2", "^NoNewPrivileges=.*$", ["NoNewPrivileges=yes"]),
        ("unit.conf.j2", "^ReadWritePaths=(.*)$", ["/var/lib/elasticsearch /var/log/elasticsearch"]),
        ("guard.service.j2", "--(?:high|stop) .[0-9]", ["--high 61", "--stop 71"]),
        ("guard.timer.j2", "OnUnitInactiveSec=.*", ["OnUnitInactiveSec=7s"]),
    ],
)
def test_the_options_reach_the_host(major: str, template: str, pattern: str, found: list[str]) -> None:
    """In both versions."""
    options = {"heap_mb": 700, "disk_high_percent": 61, "disk_stop_percent": 71, "disk_guard_interval": 7}
    text = render(template, major, **{f"elasticsearch_{name}": value for name, value in options.items()})
    assert re.findall(pattern, text, re.MULTILINE) == found


@pytest.mark.parametrize("major", VERSIONS)
def test_versions_differ_where_they_must(major: str) -> None:
    """Version 8 brings its own collector, and 6 would refuse to look for data streams; the unit holds no password."""
    assert ("-XX:+UseG1GC" in render("jvm.options.j2", major).splitlines()) == (major == "6")
    guard = render("guard.service.j2", major)
    assert ("--data-streams" in guard) == (major == "8")
    assert "g" * 16 not in guard


def test_rollover_by_size_uses_the_documented_field_of_each_version() -> None:
    """Version 6 knows the size of the index, version 8 that of its largest primary shard, too."""
    six = value("6", "__elasticsearch_ilm", elasticsearch_rollover_mb=300, elasticsearch_retention_days=3)
    assert six == {
        "logs": {
            "phases": {
                "hot": {"min_age": "0ms", "actions": {"rollover": {"max_size": "300mb", "max_age": "1d"}}},
                "delete": {"min_age": "3d", "actions": {"delete": {}}},
            }
        }
    }
    eight = value("8", "__elasticsearch_ilm", elasticsearch_rollover_mb=300, elasticsearch_retention_days=3)
    phases = eight["logs"]["phases"]
    # https://www.elastic.co/guide/en/elasticsearch/reference/8.19/ilm-rollover.html
    assert phases["hot"]["actions"]["rollover"] == {"max_primary_shard_size": "300mb", "max_age": "1d"}
    # https://www.elastic.co/guide/en/elasticsearch/reference/8.19/ilm-delete.html
    assert phases["delete"] == {"min_age": "3d", "actions": {"delete": {"delete_searchable_snapshot": True}}}


# https://www.elastic.co/guide/en/elasticsearch/reference/8.19/security-privileges.html, as far as used here, and names
# of actions, which both versions take in place of a privilege.
CLUSTER_PRIVILEGES_OF_8 = {
    "monitor",
    "manage_ilm",
    "manage_index_templates",
    "manage_ingest_pipelines",
    "read_ilm",
    "read_pipeline",
}
INDEX_PRIVILEGES_OF_8 = {"create_doc", "delete_index", "manage", "monitor", "read", "view_index_metadata"}


def test_version_8_gets_only_privileges_it_knows() -> None:
    """A role with an unknown privilege is refused."""
    for body in value("8", "__elasticsearch_roles").values():
        assert body.keys() == {"cluster", "indices"}
        assert {name for name in body["cluster"] if not name.startswith("cluster:")} <= CLUSTER_PRIVILEGES_OF_8
        for entry in body["indices"]:
            assert entry.keys() == {"names", "privileges"}
            assert {name for name in entry["privileges"] if not name.startswith("indices:")} <= INDEX_PRIVILEGES_OF_8


@pytest.mark.parametrize("major", VERSIONS)
def test_roles_may_do_their_part_and_nothing_else(major: str) -> None:
    """Only logs, and each role only what it is for."""
    roles = value(major, "__elasticsearch_roles")
    assert set(roles) == {*value(major, "__elasticsearch_user_roles"), "disk_guard"}
    for body in roles.values():
        assert [entry["names"] for entry in body["indices"]] == [["filebeat-*"]]
        assert not {"all", "manage", "manage_security"} & set(body["cluster"])

    def privileges(role: str) -> set[str]:
        return {name for entry in roles[role]["indices"] for name in entry["privileges"]}

    may_read = {"all", "read", "manage"}
    may_change = {"all", "write", "index", "delete", "delete_index", "manage", "create_index"}
    assert not privileges("filebeat_writer") & (may_read | may_change)
    assert not privileges("reader") & (may_change | {"create", "create_doc"})
    assert not privileges("disk_guard") & (may_read | {"all", "write", "index", "delete", "create", "create_doc"})


def test_the_bootstrap_password_is_another_one() -> None:
    """Else nobody could tell whether the real password was ever set."""
    assert re.fullmatch(r"[0-9a-f]{64}", value("6", "__elasticsearch_bootstrap_password"))
