"""The guard of Elasticsearch's disk, against a cluster of a few dictionaries."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_server
from tests.unit.load import load

MB = 1024 * 1024
TOTAL = 1000 * MB
NAME = "filebeat-7.10.2-{:06d}"

guard = load("roles/elasticsearch/files/elasticsearch_disk_guard.py")


class Cluster:
    """As much of Elasticsearch as the guard calls, with its refusals; sizes in MB."""

    def __init__(self, used: float, *, data_streams: bool = False) -> None:
        """Have one node ``a`` whose disk of 1000 MB is used so far, and nothing on it that may be deleted."""
        self.used = {"a": used}
        self.data_streams = data_streams
        # By name: size, number, whether Elasticsearch itself refuses writes to it.
        self.indices: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, dict[str, Any]] = {}
        self.blocked = False
        self.status = "yellow"
        self.writes: list[tuple[str, str, Any]] = []

    def add(self, number: int, size: int, **aliases: dict[str, bool]) -> str:
        """Add index ``number`` with these aliases, and return its name."""
        name = NAME.format(number)
        self.indices[name] = {"size": size, "number": number, "block": False}
        # Backing indices of data streams have none.
        self.aliases[name] = {} if self.data_streams else aliases
        return name

    @property
    def deleted(self) -> list[str]:
        """The indices that were deleted, in this order."""
        return [path.removeprefix("/") for method, path, _ in self.writes if method == "DELETE"]

    def answers(self) -> dict[str, Any]:
        """Return what there is to read."""
        # https://www.elastic.co/guide/en/elasticsearch/reference/8.19/indices-stats.html
        halves = {name: {"size_in_bytes": index["size"] * MB // 2} for name, index in self.indices.items()}
        streams = {"data_streams": [{"indices": [{"index_name": name} for name in self.indices]}]}
        return {
            "/_cluster/state/master_node": {"master_node": "id-a"},
            "/_cluster/health": {"status": self.status},
            "/_nodes/stats/fs": {"nodes": {f"id-{name}": self.node(name) for name in self.used}},
            "/filebeat-*/_alias": {name: {"aliases": aliases} for name, aliases in self.aliases.items()},
            # Version 6 does not know this call.
            **({"/_data_stream/filebeat-*": streams} if self.data_streams else {}),
            "/_cat/indices/filebeat-*?format=json&h=index,creation.date": [
                {"index": name, "creation.date": str(index["number"])} for name, index in reversed(self.indices.items())
            ],
            "/filebeat-*/_stats/store,translog": {
                "indices": {name: {"primaries": {"store": half, "translog": half}} for name, half in halves.items()}
            },
            "/_cluster/settings?flat_settings=true": {
                "persistent": {guard.CLUSTER_BLOCK: "true"} if self.blocked else {}
            },
            "/filebeat-*/_settings/index.blocks.read_only_allow_delete?flat_settings=true": {
                name: {"settings": {guard.INDEX_BLOCK: "true"}}
                for name, index in self.indices.items()
                if index["block"]
            },
        }

    def node(self, name: str) -> dict[str, Any]:
        """Return what Elasticsearch says of a node."""
        total = {
            "total_in_bytes": TOTAL,
            "free_in_bytes": TOTAL,
            "available_in_bytes": int(TOTAL - self.used[name] * MB),
        }
        roles = ["master"] if name == "voter" else ["master", "data_hot" if self.data_streams else "data", "ingest"]
        return {"name": name, "roles": roles, "fs": {"total": total}}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Answer one call."""
        if method == "GET":
            return self.answers()[path]
        self.writes.append((method, path, body))
        match method, path:
            case "PUT", "/_cluster/settings":
                assert body is not None
                # https://www.elastic.co/guide/en/elasticsearch/reference/8.19/misc-cluster-settings.html
                assert body.keys() == {"persistent"}
                assert body["persistent"].keys() == {guard.CLUSTER_BLOCK}, "only alone does it pass the block"
                self.blocked = bool(body["persistent"][guard.CLUSTER_BLOCK])
            case "PUT", "/filebeat-*/_settings":
                assert body == {guard.INDEX_BLOCK: None}
                assert not self.blocked, "refused while the cluster is blocked"
                for index in self.indices.values():
                    index["block"] = False
            case "DELETE", _:
                self.used["a"] -= self.indices.pop(path.removeprefix("/"))["size"]
            case _:
                pytest.fail(f"{method} {path}")
        return {"acknowledged": True}


def look(cluster: Cluster, node: str = "a") -> bool:
    """Let the guard of ``node`` look once, with marks at 80 and 90 %; return whether it found that logs are taken."""
    options = argparse.Namespace(node=node, indices="filebeat-*", high=80, stop=90, data_streams=cluster.data_streams)
    taken: bool = guard.Guard(cluster, options).run()
    return taken


ROLLED_OVER, WRITTEN = {"is_write_index": False}, {"is_write_index": True}


@pytest.fixture(params=[False, True], ids=["alias", "data stream"])
def logs(request: pytest.FixtureRequest) -> Cluster:
    """Three indices that are rolled over, of 100 MB each, and one that is written."""
    cluster = Cluster(0, data_streams=request.param)
    for number in (1, 2, 3, 4):
        cluster.add(number, 100, logs=WRITTEN if number == 4 else ROLLED_OVER)
    return cluster


@pytest.mark.parametrize(
    ("used", "deleted"),
    [
        ({"a": 0}, 0),
        ({"a": 500}, 0),
        ({"a": 800}, 0),
        ({"a": 850}, 1),
        # Room that was just made counts for the stop mark, although the numbers are from before.
        ({"a": 950}, 2),
        # The fullest disk counts, but not one that holds no logs.
        ({"a": 300, "b": 850}, 1),
        ({"a": 300, "voter": 990}, 0),
    ],
)
def test_above_the_high_mark_the_oldest_go(
    logs: Cluster, used: dict[str, float], deleted: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Just as many as are needed, whatever their order in Elasticsearch, and the journal gets the numbers.

    Only the guard of the master acts: two at once would delete twice, and one with room lift the other's block.
    """
    logs.used = dict(used)
    look(logs, "b")
    assert logs.writes == []
    look(logs)
    names = [NAME.format(number) for number in range(1, deleted + 1)]
    assert logs.writes == [("DELETE", f"/{name}", None) for name in names]
    node = "b" if "b" in used else "a"
    disk = f"disk of {node} is {used[node] / 10:.1f} % used ({used[node]} of 1000 MB)"
    said = [f"<5>{disk}, above 80 %: deleted the oldest index {name} (100 MB)" for name in names]
    assert capsys.readouterr().out.splitlines() == said


def test_the_index_that_is_written_never_goes(logs: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Also not when it is the only one left, or the disk is full of something else."""
    for _ in range(5):
        logs.used["a"] = 1000
        look(logs)
    assert list(logs.indices) == [NAME.format(4)]
    assert "no index is left to delete but those being written" in capsys.readouterr().out


@pytest.mark.parametrize("aliases", [{}, {"old": {}}, {"one": ROLLED_OVER, "two": WRITTEN}])
def test_an_index_that_may_be_written_stays(aliases: dict[str, dict[str, bool]]) -> None:
    """Without an alias, or in one that roll-over never marked, nobody knows; one mark of being written is enough."""
    cluster = Cluster(850)
    cluster.add(1, 100, **aliases)
    cluster.add(2, 100, one=ROLLED_OVER)
    look(cluster)
    assert cluster.deleted == [NAME.format(2)]


def test_above_the_stop_mark_the_cluster_refuses_writes_until_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, and it is lifted only somewhat below, so that it does not come and go."""
    cluster = Cluster(905)
    cluster.add(1, 100, logs=WRITTEN)
    for used in (905, 905, 899, 881):
        cluster.used["a"] = used
        assert not look(cluster)
        assert cluster.blocked
    assert len(cluster.writes) == 1
    cluster.used["a"] = 879
    assert look(cluster)
    assert not cluster.blocked
    assert len(cluster.writes) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "<4>disk of a is 90.5 % used (905 of 1000 MB), above 90 %: writes are refused, senders wait" in lines
    assert lines[-1] == "<5>disk of a is 87.9 % used (879 of 1000 MB), below 88 %: writes are taken again"


def test_a_red_cluster_takes_no_logs(logs: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """And the journal says where to look; the unit that fails is what Prometheus sees."""
    assert look(logs)
    logs.status = "red"
    assert not look(logs)
    assert capsys.readouterr().out.startswith("<4>the cluster is red")


def test_a_block_by_elasticsearch_itself_is_lifted_below_the_stop_mark(
    logs: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 6 never lifts the block of its last mark. Lifting it sooner would make Filebeat drop events."""
    logs.indices = {name: logs.indices[name] | {"block": True} for name in [NAME.format(3), NAME.format(4)]}
    logs.used["a"] = 1060
    look(logs)
    assert logs.blocked
    assert list(logs.indices) == [NAME.format(4)]
    logs.used["a"] = 700
    look(logs)
    assert logs.writes[-1] == ("PUT", "/filebeat-*/_settings", {guard.INDEX_BLOCK: None})
    assert (
        f"disk of a is 70.0 % used (700 of 1000 MB): lifted the block that Elasticsearch had put on {NAME.format(4)}"
        in capsys.readouterr().out
    )
    count = len(logs.writes)
    look(logs)
    assert len(logs.writes) == count


@pytest.fixture
def server(tmp_path: Path) -> Iterator[fake_server.Server]:
    """Run a node that answers the guard's first question only."""

    def answer(request: fake_server.Request) -> fake_server.Answer:
        assert request.headers["authorization"] == "Basic ZGlza19ndWFyZDpzZWNyZXQ="
        known = {
            "/_cluster/state/master_node": (200, b'{"master_node": "a"}'),
            "/_nodes/stats/fs": (403, b"not\nyours"),
        }
        return known[request.path]

    (tmp_path / "password").write_text("secret\n")
    with fake_server.serve(tmp_path, answer, client_certificate=True) as found:
        (tmp_path / "ca.crt").symlink_to(found.certificate)
        yield found


def run(folder: Path, url: str) -> Any:
    """Run the program with the credentials in a folder, and return its status."""
    words = f"--url {url} --node a --user disk_guard --indices filebeat-* --high 80 --stop 90 --certs {folder}"
    return guard.main([*words.split(), "--password-file", str(folder / "password")])


def test_failure_is_one_line_and_a_status(
    server: fake_server.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal says what is wrong, in Elasticsearch's words, without a traceback and without the password."""
    for url, said in (
        (server.url, "GET /_nodes/stats/fs: 403: not yours"),
        ("https://127.0.0.1:9", "https://127.0.0.1:9 did not answer: "),
    ):
        assert run(tmp_path, url) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"<4>{said}")
        assert "secret" not in line


def test_no_password_over_plain_http(tmp_path: Path) -> None:
    """The program refuses a URL that would send it in clear."""
    with pytest.raises(SystemExit):
        run(tmp_path, "http://127.0.0.1:9")
