"""The guard of Elasticsearch's disk, against a cluster of a few dictionaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.load import load

FILE = Path(__file__).resolve().parents[2] / "roles" / "elasticsearch" / "files" / "elasticsearch_disk_guard.py"
MB = 1024 * 1024
TOTAL = 1000 * MB


guard = load("roles/elasticsearch/files/elasticsearch_disk_guard.py")


class Cluster:
    """As much of Elasticsearch as the guard calls, with its refusals; sizes in MB."""

    def __init__(self, used: float, *, data_streams: bool = False) -> None:
        """Have one node ``a`` whose disk of 1000 MB is used so far, and nothing on it that may be deleted."""
        self.used = {"a": used}
        self.master = "a"
        self.data_streams = data_streams
        self.indices: dict[str, dict[str, Any]] = {}
        self.aliases_of: dict[str, dict[str, Any]] = {}
        self.cluster_block = False
        self.writes: list[tuple[str, str, Any]] = []

    def refuses(self) -> bool:
        """Return whether writes are refused."""
        return self.cluster_block

    def add(self, number: int, size: int, *, alias: bool | None = False) -> str:
        """Add index ``number`` and return its name; ``alias`` is whether it is written, None for one without."""
        name = f"filebeat-7.10.2-{number:06d}"
        self.indices[name] = {"size": size, "created": number * 1000, "alias": alias, "block": False}
        return name

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: C901, PLR0911, PLR0912
        """Answer one call."""
        if method != "GET":
            self.writes.append((method, path, body))
        match (method, path.partition("?")[0]):
            case ("GET", "/_cluster/state/master_node"):
                return {"master_node": f"id-{self.master}"}
            case ("GET", "/_nodes/stats/fs"):
                return {"nodes": {f"id-{name}": self.node(name, used) for name, used in self.used.items()}}
            case ("GET", "/filebeat-*/_alias"):
                return {name: {"aliases": self.aliases(name, index)} for name, index in self.indices.items()}
            case ("GET", "/_data_stream/filebeat-*"):
                assert self.data_streams, "version 6 does not know this call"
                return {"data_streams": [{"indices": [{"index_name": name} for name in self.indices]}]}
            case ("GET", "/_cat/indices/filebeat-*"):
                listed = [(name, str(index["created"])) for name, index in reversed(self.indices.items())]
                return [{"index": name, "creation.date": created} for name, created in listed]
            case ("GET", "/filebeat-*/_stats/store,translog"):
                # https://www.elastic.co/guide/en/elasticsearch/reference/8.19/indices-stats.html
                halves = {name: {"size_in_bytes": index["size"] * MB // 2} for name, index in self.indices.items()}
                return {"indices": {name: {"primaries": {"store": h, "translog": h}} for name, h in halves.items()}}
            case ("GET", "/_cluster/settings"):
                return {"persistent": {guard.CLUSTER_BLOCK: "true"} if self.cluster_block else {}, "transient": {}}
            case ("GET", "/filebeat-*/_settings/index.blocks.read_only_allow_delete"):
                blocked = {"settings": {guard.INDEX_BLOCK: "true"}}
                return {name: blocked for name, index in self.indices.items() if index["block"]}
            case ("PUT", "/_cluster/settings"):
                assert body is not None
                # https://www.elastic.co/guide/en/elasticsearch/reference/8.19/misc-cluster-settings.html
                assert body.keys() == {"persistent"}
                assert body["persistent"].keys() == {guard.CLUSTER_BLOCK}, "only alone does it pass the block"
                self.cluster_block = bool(body["persistent"][guard.CLUSTER_BLOCK])
                return {"acknowledged": True}
            case ("PUT", "/filebeat-*/_settings"):
                assert body == {guard.INDEX_BLOCK: None}
                assert not self.cluster_block, "refused while the cluster is blocked"
                for index in self.indices.values():
                    index["block"] = False
                return {"acknowledged": True}
            case ("DELETE", name):
                index = self.indices.pop(name.removeprefix("/"))
                self.used[self.master] -= index["size"]
                return {"acknowledged": True}
        raise AssertionError(f"{method} {path}")

    def node(self, name: str, used: float) -> dict[str, Any]:
        """Return what Elasticsearch says of a node."""
        total = {"total_in_bytes": TOTAL, "free_in_bytes": TOTAL, "available_in_bytes": int(TOTAL - used * MB)}
        roles = ["master"] if name == "voter" else ["master", "data_hot" if self.data_streams else "data", "ingest"]
        return {"name": name, "roles": roles, "fs": {"total": total}}

    def aliases(self, name: str, index: dict[str, Any]) -> dict[str, Any]:
        """Return the aliases of an index; backing indices of data streams have none."""
        if name in self.aliases_of:
            return self.aliases_of[name]
        if self.data_streams or index["alias"] is None:
            return {}
        return {"filebeat-7.10.2": {"is_write_index": index["alias"]}}


def look(cluster: Cluster, node: str = "a") -> None:
    """Let the guard of ``node`` look once, with marks at 80 and 90 %."""
    limits = guard.Limits("filebeat-*", 80, 90, data_streams=cluster.data_streams)
    guard.Guard(cluster, node, limits).run()


@pytest.fixture(params=[False, True], ids=["alias", "data stream"])
def logs(request: pytest.FixtureRequest) -> Cluster:
    """Three indices that are rolled over, of 100 MB each, and one that is written."""
    cluster = Cluster(0, data_streams=request.param)
    for number in (1, 2, 3):
        cluster.add(number, 100)
    cluster.add(4, 100, alias=True)
    return cluster


@pytest.mark.parametrize("used", [0, 500, 800])
def test_up_to_the_high_mark_nothing_happens(logs: Cluster, used: int, capsys: pytest.CaptureFixture[str]) -> None:
    """No call that writes, no line in the journal."""
    logs.used["a"] = used
    look(logs)
    assert logs.writes == []
    assert capsys.readouterr().out == ""


def test_above_the_high_mark_the_oldest_goes(logs: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Just as many as are needed, and the journal gets the numbers."""
    logs.used["a"] = 850
    look(logs)
    assert logs.writes == [("DELETE", "/filebeat-7.10.2-000001", None)]
    assert capsys.readouterr().out == (
        "<5>disk of a is 85.0 % used (850 of 1000 MB), above 80 %: "
        "deleted the oldest index filebeat-7.10.2-000001 (100 MB)\n"
    )


def test_several_go_where_one_is_not_enough(logs: Cluster) -> None:
    """The oldest first, whatever the order in which Elasticsearch lists them."""
    logs.used["a"] = 950
    look(logs)
    assert [path for _, path, _ in logs.writes] == ["/filebeat-7.10.2-000001", "/filebeat-7.10.2-000002"]
    assert not logs.refuses()


def test_the_index_that_is_written_never_goes(logs: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Also not when it is the only one left, or the disk is full of something else."""
    logs.used["a"] = 1000
    for _ in range(5):
        logs.used["a"] = 1000
        look(logs)
    assert list(logs.indices) == ["filebeat-7.10.2-000004"]
    assert "no index is left to delete but those being written" in capsys.readouterr().out


def test_an_index_that_roll_over_never_saw_stays() -> None:
    """Without an alias, or in one without a mark, nobody knows whether it is written."""
    cluster = Cluster(850)
    cluster.add(1, 100, alias=None)
    look(cluster)
    assert cluster.writes == []
    cluster.aliases_of["filebeat-7.10.2-000001"] = {"old": {}}
    look(cluster)
    assert cluster.writes == []


def test_an_index_that_is_written_through_another_alias_stays() -> None:
    """One mark of being written counts more than any number of others."""
    cluster = Cluster(850)
    for number in (1, 2):
        cluster.add(number, 100)
    cluster.aliases_of["filebeat-7.10.2-000001"] = {"one": {"is_write_index": False}, "two": {"is_write_index": True}}
    look(cluster)
    assert [path for _, path, _ in cluster.writes] == ["/filebeat-7.10.2-000002"]


def test_above_the_stop_mark_the_cluster_refuses_writes_until_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, and it is lifted only somewhat below, so that it does not come and go."""
    cluster = Cluster(905)
    cluster.add(1, 100, alias=True)
    look(cluster)
    assert cluster.refuses()
    look(cluster)
    for used in (899, 881):
        cluster.used["a"] = used
        look(cluster)
        assert cluster.refuses()
    assert len(cluster.writes) == 1
    cluster.used["a"] = 879
    look(cluster)
    assert not cluster.refuses()
    assert len(cluster.writes) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "<4>disk of a is 90.5 % used (905 of 1000 MB), above 90 %: writes are refused, senders wait" in lines
    assert lines[-1] == "<5>disk of a is 87.9 % used (879 of 1000 MB), below 88 %: writes are taken again"


def test_no_block_where_deleting_was_enough(logs: Cluster) -> None:
    """Room that was just made counts, although the numbers are from before."""
    logs.used["a"] = 950
    look(logs)
    assert not logs.refuses()


def test_a_block_by_elasticsearch_itself_is_lifted_below_the_stop_mark(
    logs: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 6 never lifts the block of its last mark."""
    logs.used["a"] = 700
    logs.indices["filebeat-7.10.2-000004"]["block"] = True
    look(logs)
    assert logs.writes == [("PUT", "/filebeat-*/_settings", {guard.INDEX_BLOCK: None})]
    assert "lifted the block that Elasticsearch had put on filebeat-7.10.2-000004" in capsys.readouterr().out
    look(logs)
    assert len(logs.writes) == 1


def test_a_block_by_elasticsearch_itself_stays_while_the_disk_is_full() -> None:
    """Lifting it would lead to the answer that makes Filebeat drop events."""
    cluster = Cluster(960)
    cluster.indices[cluster.add(1, 100, alias=True)]["block"] = True
    look(cluster)
    assert cluster.refuses()
    cluster.used["a"] = 500
    look(cluster)
    assert not cluster.refuses()
    assert not cluster.indices["filebeat-7.10.2-000001"]["block"]


def test_only_the_guard_of_the_master_acts_and_the_fullest_disk_counts(logs: Cluster) -> None:
    """Two guards at once would delete twice, and one with room would lift the other's block."""
    logs.used = {"a": 300, "b": 850}
    look(logs, "b")
    assert logs.writes == []
    look(logs, "a")
    assert [path for _, path, _ in logs.writes] == ["/filebeat-7.10.2-000001"]


def test_a_node_without_data_does_not_count(logs: Cluster) -> None:
    """Its disk holds no logs."""
    logs.used = {"a": 300, "voter": 990}
    look(logs)
    assert logs.writes == []


def arguments(folder: Path) -> list[str]:
    """Return the program's arguments, with credentials in ``folder``."""
    (folder / "password").write_text("secret\n")
    words = "--url https://127.0.0.1:9 --node a --user disk_guard --indices filebeat-* --high 80 --stop 90"
    return [*words.split(), "--password-file", str(folder / "password"), "--certs", str(folder)]


def test_failure_is_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal says what is wrong, without a traceback and without the password."""
    assert guard.main(arguments(tmp_path)) == 1
    out = capsys.readouterr().out
    assert out.startswith("<4>")
    assert out.count("\n") == 1
    assert "secret" not in out


def test_no_password_over_plain_http(tmp_path: Path) -> None:
    """The program refuses a URL that would send it in clear."""
    words = [word.replace("https:", "http:") for word in arguments(tmp_path)]
    with pytest.raises(SystemExit):
        guard.main(words)


def test_the_answer_of_a_refusal_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Elasticsearch's own reason is what an operator needs."""

    class Refuses:
        """A cluster that refuses everything."""

        def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
            """Refuse."""
            raise guard.GuardError(f"{method} {path}: 403: {json.dumps(body)}")

    monkeypatch.setattr(guard, "Client", lambda *_: Refuses())
    assert guard.main(arguments(tmp_path)) == 1
