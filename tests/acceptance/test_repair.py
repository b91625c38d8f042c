"""What site.yml puts right: files that somebody spoiled, changes that were not loaded, input that a program refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.acceptance import lab
from tests.acceptance.test_site import recap

APP = lab.group("app")[0]
DATABASE = lab.group("postgres")[0]
ELASTICSEARCH = lab.group("elasticsearch")[0]

# A file of each role that writes any, and what somebody did to it.
SPOILED = (
    (APP, "/etc/systemd/journald.conf.d/50-site.conf", "rm"),
    (APP, "/etc/ssl/site/host.key", "chmod 0600"),
    (APP, "/etc/site-firewall.nft", "echo '# mine' >>"),
    (APP, "/etc/default/etcd", "echo '# mine' >>"),
    (DATABASE, "/opt/patroni/bin/patronictl", "chmod 0700"),
    (DATABASE, "/etc/patroni/patroni.yml", "echo '# mine' >>"),
    (APP, "/etc/patroni-witness/witness.json", "chmod 0644"),
    (APP, "/etc/haproxy/haproxy.cfg", "echo '# mine' >>"),
    (APP, "/opt/polls/static", "chmod 0700"),
    (APP, "/etc/supervisor/conf.d/gunicorn-8000.conf", "rm"),
    (APP, "/etc/nginx/sites-enabled/site.conf", "rm"),
    (APP, "/etc/apt/preferences.d/elastic.pref", "rm"),
    (ELASTICSEARCH, "/usr/local/sbin/elasticsearch-disk-guard", "echo '# mine' >>"),
    (APP, "/etc/filebeat/modules.d/site.yml", "chmod 0600"),
)


def look(host: str, path: str) -> str:
    """Return a file's content, owner and mode."""
    script = f"stat --dereference --format '%U:%G %a' {path}; test -d {path} || sha256sum {path}"
    return str(lab.on(host).check_output(script))


def changed(host: str, unit: str) -> str:
    """Return when the unit's state last changed."""
    return str(lab.on(host).check_output(f"systemctl show --value --property=StateChangeTimestampMonotonic {unit}"))


@pytest.mark.usefixtures("whole_cluster")
def test_what_somebody_spoiled_is_mended() -> None:
    """One file of each role is changed, removed or given another mode; the next run puts each back."""
    before = {(host, path): look(host, path) for host, path, _ in SPOILED}
    for host, path, how in SPOILED:
        lab.on(host).check_output(f"{how} {path}")
    mended = lab.playbook("site.yml")
    assert mended.returncode == 0, mended.stdout
    assert {(host, path): look(host, path) for host, path, _ in SPOILED} == before


@pytest.mark.usefixtures("whole_cluster")
def test_what_a_run_has_not_loaded_is_loaded_by_the_next() -> None:
    """A run that was cut off leaves files newer than what their services have read."""
    loads = (
        (APP, "nginx.service", "/etc/nginx/sites-available/site.conf"),
        (APP, "haproxy.service", "/etc/haproxy/haproxy.cfg"),
        (APP, "site-firewall.service", "/etc/site-firewall.nft"),
        (DATABASE, "patroni.service", "/etc/patroni/patroni.yml"),
    )
    arguments = ("site.yml", "--limit", f"{APP},{DATABASE}", "--tags", "nginx,haproxy,firewall,patroni")
    old = {unit: changed(host, unit) for host, unit, _ in loads}
    for host, _, path in loads:
        lab.on(host).check_output(f"touch {path}")
    caught_up = lab.playbook(*arguments)
    assert caught_up.returncode == 0, caught_up.stdout
    for host, unit, _ in loads:
        assert changed(host, unit) != old[unit], unit
    again = lab.playbook(*arguments)
    assert {counters["changed"] for counters in recap(again.stdout).values()} == {0}, again.stdout


@pytest.fixture
def refused() -> Iterator[tuple[str, ...]]:
    """Return a run of nginx's role with a certificate that is none, and put the site right afterwards."""
    yield ("site.yml", "--limit", APP, "--tags", "nginx", "-e", "nginx_certificate_file=/etc/hostname")
    assert lab.playbook("site.yml", "--limit", APP, "--tags", "nginx").returncode == 0


def test_what_nginx_refuses_is_refused_each_time(refused: tuple[str, ...]) -> None:
    """The second run is no greener than the first, and the next restart does not take the site down."""
    for _ in range(2):
        run = lab.playbook(*refused)
        assert run.returncode != 0, run.stdout
        assert re.search(r"nginx.conf is refused by .*/etc/hostname", run.stdout, re.DOTALL), run.stdout
        assert lab.run(APP, "nginx", "-t").returncode == 0
