"""What goes wrong between a log and Elasticsearch, under traffic: afterwards every line is there exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance import elastic, lab, load
from tests.acceptance.elastic import MONITORING, SHIPPERS, ask

APP = lab.group("app")[0]
DATA = "/var/lib/elasticsearch"
# Two looks of the watchdog are a minute apart; systemd may be half a minute late.
WATCHDOG_SECONDS = 240


@pytest.fixture(autouse=True)
def complete() -> Iterator[None]:
    """Begin with every line in its place, and insist on it at the end."""
    elastic.wait_until_complete()
    yield
    elastic.wait_until_complete()


def filebeat_pid() -> str:
    """Return the number of Filebeat's process on the app host."""
    return str(lab.on(APP).check_output("systemctl show --property=MainPID --value filebeat").strip())


@contextmanager
def traffic() -> Iterator[None]:
    """Keep votes and reads coming; afterwards none of them may have failed, whatever happened to the logs."""
    with load.votes(5) as votes, load.reads(15) as reads:
        yield
    assert votes.failed() == []
    assert reads.failed() == []


def test_elasticsearch_down_for_a_minute(tell: Callable[[str], None]) -> None:
    """Filebeat keeps its place in the files and goes on from there."""
    with traffic():
        lab.on(MONITORING).check_output("systemctl stop elasticsearch")
        time.sleep(60)
        lab.on(MONITORING).check_output("systemctl start elasticsearch")
        started = lab.wait_until("Elasticsearch up again", elastic.is_up, 120)
        caught_up = elastic.wait_until_caught_up()
    tell(f"Elasticsearch answered {started:.1f} s after its start; all lines were there {caught_up:.1f} s later")


def test_filebeat_killed(tell: Callable[[str], None]) -> None:
    """It is started again, and what it had sent without hearing of it is not doubled."""
    before = filebeat_pid()
    with traffic():
        time.sleep(5)
        lab.on(APP).check_output(f"kill -9 {before}")
        lab.wait_until("another Filebeat", lambda: filebeat_pid() not in {before, "0"}, 30)
        caught_up = elastic.wait_until_caught_up()
    tell(f"all lines until then were there {caught_up:.1f} s after the new Filebeat")


def test_filebeat_frozen(tell: Callable[[str], None]) -> None:
    """The watchdog notices what systemd cannot, ends it and says so."""
    before = filebeat_pid()
    with traffic():
        lab.on(APP).check_output(f"kill -STOP {before}")
        noticed = lab.wait_until("another Filebeat", lambda: filebeat_pid() not in {before, "0"}, WATCHDOG_SECONDS)
        caught_up = elastic.wait_until_caught_up()
    journal = lab.on(APP).check_output("journalctl --unit=filebeat-watchdog --since=-10min --output=cat")
    assert "Restarting" in journal
    tell(f"replaced {noticed:.1f} s after it froze; all lines until then were there {caught_up:.1f} s later")


def watchdog_says(words: str, begun: float) -> bool:
    """Let the watchdog look on every host, and say whether its journal of the app host has those words since then."""
    for host in SHIPPERS:
        # More often than systemd would let a unit start.
        lab.on(host).check_output("systemctl reset-failed filebeat-watchdog; systemctl start filebeat-watchdog")
    journal = lab.on(APP).check_output(f"journalctl --unit=filebeat-watchdog --since=@{begun:.0f} --output=cat")
    return words in journal


@contextmanager
def no_place_to_write() -> Iterator[None]:
    """Take away the name by which events find their index, as when that is deleted; the events in it stay."""
    found = ask("GET", "/_alias/filebeat-*", user="elastic").body
    places = [
        {"index": index, "alias": name, **more} for index, one in found.items() for name, more in one["aliases"].items()
    ]
    removed = [{"remove": {"index": place["index"], "alias": place["alias"]}} for place in places]
    # Lifecycles miss the name, too, and never try again.
    assert ask("POST", "/_ilm/stop", user="elastic").status == 200
    assert ask("POST", "/_aliases", {"actions": removed}, user="elastic").status == 200
    try:
        yield
    finally:
        added = ask("POST", "/_aliases", {"actions": [{"add": place} for place in places]}, user="elastic")
        assert added.status == 200, added.body
        assert ask("POST", "/_ilm/start", user="elastic").status == 200


def test_index_deleted(tell: Callable[[str], None]) -> None:
    """Filebeat drops what is refused; the watchdog says so, and lets it send again when there is an index."""
    for host in SHIPPERS:
        # As if nothing had been restarted for long.
        lab.on(host).check_output("rm --force /var/lib/filebeat-watchdog/state.json")
    begun = time.time()
    watchdog_says("", begun)
    drops = f"journalctl --unit=filebeat --since=@{begun:.0f} --grep='Cannot index event' --quiet --lines=1"
    with no_place_to_write(), traffic():
        dropped = lab.wait_until("events dropped", lambda: lab.on(APP).run(drops).rc == 0, 30)
        assert watchdog_says("Filebeat drops events", begun)
    assert watchdog_says("events again, which Elasticsearch refused. Restarting it.", begun)
    caught_up = elastic.wait_until_caught_up()
    tell(f"dropped after {dropped:.1f} s; all lines were there {caught_up:.1f} s after the restart")


def test_registry_damaged(tell: Callable[[str], None]) -> None:
    """A crash or a full disk can leave Filebeat's notes so that it does not start: the watchdog puts them right."""
    begun = time.time()
    registry = "/var/lib/filebeat/registry/filebeat"
    with traffic():
        time.sleep(5)
        lab.on(APP).check_output(f"systemctl stop filebeat && cd {registry} && truncate --size=0 meta.json")
        lab.on(APP).check_output(
            f"echo '[{{' | runuser -u filebeat -- tee {registry}/9999999.json && systemctl start filebeat"
        )
        mended = lab.wait_until("damaged notes said", lambda: watchdog_says("9999999.json was damaged", begun), 30)
        caught_up = elastic.wait_until_caught_up()
    assert watchdog_says("meta.json was damaged", begun)
    tell(f"mended by a look after {mended:.1f} s; all lines until then were there {caught_up:.1f} s later")


def test_logs_rotated(tell: Callable[[str], None]) -> None:
    """Lines written while the file changes its name arrive, and those of the new file are not taken for old ones."""
    with traffic():
        time.sleep(2)
        lab.on(APP).check_output("logrotate --force /etc/logrotate.d/nginx")
        time.sleep(2)
        caught_up = elastic.wait_until_caught_up()
    tell(f"all lines until then were there {caught_up:.1f} s after the rotation")


@contextmanager
def small_disk(megabytes: int) -> Iterator[None]:
    """Give Elasticsearch a small file system of its own for the time, with all its data; then put the data back."""
    host = lab.on(MONITORING)
    move = f"cp --archive {DATA}/. {{}} && chown --reference={DATA} {{}} && chmod --reference={DATA} {{}}"
    host.check_output("systemctl stop elasticsearch")
    host.check_output(f"mkdir /mnt/small && mount -t tmpfs -o size={megabytes}m tmpfs /mnt/small")
    host.check_output(move.replace("{}", "/mnt/small"))
    host.check_output(f"mount --move /mnt/small {DATA}")
    host.check_output("systemctl start elasticsearch")
    try:
        lab.wait_until("Elasticsearch up on the small disk", elastic.is_up, 120)
        yield
    finally:
        put_back(host)
    lab.wait_until("Elasticsearch up on its own disk", elastic.is_up, 120)


def put_back(host: Any) -> None:
    """Move the data from the small file system to the place that it covers."""
    host.check_output("systemctl stop elasticsearch")
    host.check_output(f"mount --move {DATA} /mnt/small")
    host.check_output(f"find {DATA} -mindepth 1 -delete && cp --archive /mnt/small/. {DATA}")
    host.check_output("umount /mnt/small && rmdir /mnt/small && systemctl start elasticsearch")


def cluster_is_blocked() -> bool:
    """Say whether the guard has stopped all writing."""
    settings = elastic.ask("GET", "/_cluster/settings?flat_settings=true", user="elastic").body
    return any("cluster.blocks.read_only_allow_delete" in settings[kind] for kind in ("transient", "persistent"))


def test_disk_nearly_full(tell: Callable[[str], None]) -> None:
    """Writing stops before anything is dropped, Filebeat waits, and all of it arrives once there is room."""
    host = lab.on(MONITORING)
    with small_disk(400), traffic():
        free = int(host.check_output(f"df --output=avail --block-size=1K {DATA} | tail -n 1"))
        size = int(host.check_output(f"df --output=size --block-size=1K {DATA} | tail -n 1"))
        filler = free - size * 7 // 100
        host.check_output(f"fallocate --length={filler}K {DATA}/filler")
        blocked = lab.wait_until("writing stopped", cluster_is_blocked, 90)
        time.sleep(15)
        assert elastic.differences()[f"{APP} nginx.access"] > 0
        host.check_output(f"rm {DATA}/filler")
        freed = lab.wait_until("writing allowed again", lambda: not cluster_is_blocked(), 90)
        caught_up = elastic.wait_until_caught_up()
    tell(
        f"stopped after {blocked:.1f} s, allowed {freed:.1f} s after there was room, caught up {caught_up:.1f} s later"
    )
