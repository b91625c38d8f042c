"""New secrets are taken up while people vote."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import pytest

from tests.acceptance import elastic, lab
from tests.acceptance.test_chaos import LOW_RATE, assert_green, experiment
from tests.acceptance.test_site import assert_nothing_is_left_to_do


def etcd_users(root: str) -> list[str]:
    """Return the names of etcd's users, as far as this is the password of root."""
    command = "export ETCDCTL_API=3 ETCDCTL_USER=root:$(cat); cd /etc/ssl/site; "
    command += "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=ca.crt --cert=host.crt --key=host.key user list"
    return lab.run(lab.group("etcd")[0], "sh", "-euc", command, stdin=root).stdout.split()


def logins() -> set[str]:
    """Return the roles that can log in to PostgreSQL."""
    return set(lab.sql(lab.primary(), "select rolname from pg_roles where rolcanlogin").split())


def verifiers() -> dict[str, str]:
    """Return what PostgreSQL keeps of passwords, by role."""
    lines = lab.sql(lab.primary(), "select rolname, rolpassword from pg_authid where rolpassword is not null")
    return dict(line.split("|") for line in lines.splitlines())


@pytest.mark.usefixtures("whole_cluster")
def test_new_secrets_cost_no_vote(tell: Callable[[str], None]) -> None:
    """All of them at once. Former ones are good for nothing afterwards."""
    folder = lab.DIRECTORY / "secrets"
    before = {path.name: path.read_text() for path in folder.iterdir() if not path.name.endswith("_former")}
    users, roles, passwords = etcd_users(before["etcd_root_password"]), logins(), verifiers()
    assert_green(experiment("playbooks/chaos-secrets-rotated.yml", *LOW_RATE), "secrets-rotated", tell)
    same = {name for name, value in before.items() if (folder / name).read_text() == value}
    assert same <= {"certificates_ca_passphrase", "kibana_encryption_secret", "pgbackrest_cipher_passphrase"}
    assert etcd_users(before["etcd_root_password"]) == []
    now = etcd_users((folder / "etcd_root_password").read_text())
    assert set(users) & set(now) == {"root"}
    assert len(now) == len(users)
    assert len(logins()) == len(roles)
    assert [name for name in roles & logins() if name.startswith("polls")] == []
    assert [name for name, kept in verifiers().items() if passwords.get(name) == kept] == []
    former = elastic.ask("GET", "/_cluster/health", user="elastic", secret="elasticsearch_password_former")
    assert former.status == HTTPStatus.UNAUTHORIZED
    elastic.wait_until_complete()
    assert_nothing_is_left_to_do()
