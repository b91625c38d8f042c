"""The witness: what it decides, how it speaks to etcd and to Patroni, what it says."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from patroni_witness import service
from patroni_witness.agent import Agent
from patroni_witness.decision import (
    Answer,
    Compare,
    Delete,
    Key,
    Limits,
    Look,
    Memory,
    Put,
    Verdict,
    View,
    decide,
    relieved,
)
from patroni_witness.etcd import Endpoint, Etcd, EtcdError, transaction
from patroni_witness.members import Members, read_answer
from patroni_witness.service import Report, Witness
from tests.unit.fake_server import Answer as HttpAnswer
from tests.unit.fake_server import Request, serve

PATHS = {
    "leader": "/service/site/leader",
    "sync": "/service/site/sync",
    "config": "/service/site/config",
    "failover": "/service/site/failover",
    "status": "/service/site/status",
    "relief": "/patroni-witness/site/relief",
}
WHOLE = View(
    leader=Key("postgres-1", 10, 12),
    sync=Key('{"leader":"postgres-1","sync_standby":"postgres-2","quorum":0}', 3, 11),
    config=Key('{"synchronous_mode": true, "ttl": 20, "loop_wait": 2}', 4, 4),
    status=Key('{"optime":100,"slots":null}', 6, 13),
)
PRIMARY = Answer(primary=True)
STANDBY = Answer(primary=False, streaming=True, received=100)
WELL = Look(WHOLE, {"postgres-1": PRIMARY, "postgres-2": STANDBY})
LOST = Look(WHOLE, {"postgres-1": None, "postgres-2": STANDBY})
LIMITS = Limits(misses=3, settled=4)


def after(*looks: Look) -> Verdict:
    """Return the verdict after some looks, the first four of them well."""
    memory, verdict = Memory(), Verdict("")
    # A look every half a second.
    for number, look in enumerate((*[WELL] * 4, *looks)):
        memory, verdict = decide(memory, replace(look, at=number / 2), LIMITS, {"witness": "main"})
    return verdict


def test_a_lost_leader_is_relieved_after_three_looks() -> None:
    """Not after two; and the transaction compares all that it rests on, and changes in the right order."""
    assert after(LOST, LOST).relief is None
    verdict = after(LOST, LOST, LOST)
    assert verdict.relief is not None
    assert set(verdict.relief.compares) == {
        Compare("leader", 12),
        Compare("sync", 11),
        Compare("config", 4),
        Compare("failover", 0),
        Compare("relief", 0),
    }
    assert WHOLE.sync is not None
    assert verdict.relief.changes == (
        Delete("leader"),
        Put("sync", WHOLE.sync.value),
        Put("relief", '{"leader": "postgres-1", "witness": "main"}', passing=True),
    )


def test_one_answer_is_enough_to_begin_anew() -> None:
    """The misses have to be in a row."""
    assert after(LOST, LOST, WELL, LOST, LOST).relief is None


def test_a_look_at_which_nobody_answers_is_no_evidence() -> None:
    """A witness that is short of everything itself misses both; three looks have to tell the two apart."""
    silence = replace(LOST, answers={"postgres-1": None, "postgres-2": None})
    verdict = after(LOST, silence, LOST)
    assert verdict.held
    assert "did not always answer either" in verdict.reason
    assert after(LOST, silence, LOST, LOST).relief is not None


def test_a_leader_that_says_it_is_none_counts_as_lost() -> None:
    """Cut off from etcd, it has stopped being primary by itself; its lease still runs."""
    demoted = replace(LOST, answers={"postgres-1": Answer(primary=False), "postgres-2": STANDBY})
    assert after(demoted, demoted, demoted).relief is not None


def seen(answers: dict[str, Answer | None] | None = None, **changes: Key | None) -> Look:
    """Return a look at a lost leader, with other keys or other answers."""
    return Look(replace(WHOLE, **changes), dict(LOST.answers) if answers is None else answers)


HOLDS = {
    "asynchronous": (seen(config=Key('{"synchronous_mode": false}', 4, 20)), "does not replicate synchronously"),
    "quorum commit": (seen(config=Key('{"synchronous_mode": "quorum"}', 4, 20)), "does not replicate synchronously"),
    "paused": (seen(config=Key('{"synchronous_mode": true, "pause": true}', 4, 20)), "paused"),
    "unreadable": (seen(config=Key("{", 4, 20)), "does not replicate synchronously"),
    "switchover": (seen(failover=Key('{"leader": "postgres-1"}', 20, 20)), "switchover"),
    "hold-off": (seen(relief=Key("{}", 20, 20)), "only just now"),
    "standby taken out": (seen(sync=Key('{"leader":"postgres-1","sync_standby":null}', 3, 20)), "no standby"),
    "other leader's sync": (seen(sync=Key('{"leader":"x","sync_standby":"postgres-2"}', 3, 20)), "no standby"),
    "standby lost, too": (seen({"postgres-1": None, "postgres-2": None}), "does not answer either"),
    "standby starting": (
        seen({"postgres-1": None, "postgres-2": Answer(primary=False, running=False)}),
        "does not answer either",
    ),
    "no majority": (Look(None, LOST.answers), "majority"),
}


@pytest.mark.parametrize("case", HOLDS)
def test_what_forbids_to_act(case: str) -> None:
    """The leader is lost all the same, and the reason is said."""
    look, reason = HOLDS[case]
    verdict = after(look, look, look, look)
    assert verdict.relief is None
    assert verdict.held
    assert reason in verdict.reason


def test_a_switchover_of_the_past_forbids_nothing() -> None:
    """Patroni leaves an empty object behind; a switchover that begins later changes the key's revision."""
    over = seen(failover=Key("{}", 7, 9))
    verdict = after(over, over, over)
    assert verdict.relief is not None
    assert Compare("failover", 9) in verdict.relief.compares


def test_a_standby_that_receives_shows_the_leader_alive() -> None:
    """While it receives nothing is done; once that has stopped, the leader is relieved."""
    receiving = [
        seen({"postgres-1": None, "postgres-2": replace(STANDBY, received=100 + turn)}) for turn in range(1, 5)
    ]
    assert "still receives" in after(*receiving).reason
    assert after(*receiving, receiving[-1]).relief is not None


@pytest.mark.parametrize(
    "standby",
    [replace(STANDBY, streaming=False), None],
    ids=["not streaming", "never heard of"],
)
def test_the_pair_has_to_be_seen_whole_first(standby: Answer | None) -> None:
    """A witness that has just started, or never saw the standby stream, does not act."""
    memory = Memory()
    for primary in [PRIMARY] * 9 + [None] * 5:
        look = Look(WHOLE, {"postgres-1": primary, "postgres-2": standby})
        memory, verdict = decide(memory, look, LIMITS)
        assert verdict.relief is None
    memory, verdict = Memory(), Verdict("")
    for _ in range(9):
        memory, verdict = decide(memory, LOST, LIMITS)
    assert "has not been seen" in verdict.reason


def test_a_leader_elected_anew_has_to_be_seen_anew() -> None:
    """Another key, even of the same name, is another leader; and one that has only just led is left alone."""
    again = Look(replace(WHOLE, leader=Key("postgres-1", 40, 40)), LOST.answers)
    assert "has not been seen" in after(again, again, again).reason
    young = Look(again.view, WELL.answers)
    assert "too short a time" in after(young, again, again, again).reason
    assert after(*[young] * 4, again, again, again).relief is not None


AHEAD = replace(PRIMARY, written=101)
CUT_OFF = replace(WELL, answers={"postgres-1": AHEAD, "postgres-2": STANDBY})
# A loop of two seconds and one more, at two looks a second, after the first of them.
ENOUGH = 8


def test_a_leader_cut_off_from_etcd_and_standby_is_relieved_when_a_loop_has_passed() -> None:
    """Though it answers as primary, since no commit can end and its lease is not renewed; and the reason is told."""
    assert after(*[CUT_OFF] * (ENOUGH - 1)).relief is None
    verdict = after(*[CUT_OFF] * ENOUGH)
    assert verdict.reason == (
        "postgres-1 is lost: it does not reach etcd, and its standby receives nothing; it is relieved"
    )
    assert verdict.relief == after(LOST, LOST, LOST).relief


def test_the_loop_is_counted_from_the_last_renewal() -> None:
    """What was written just before the cut and never told has been waiting since then."""
    moving = [beside(replace(PRIMARY, written=100 + turn), replace(STANDBY, received=100 + turn)) for turn in (1, 2, 3)]
    stands = beside(replace(PRIMARY, written=110), replace(STANDBY, received=103))
    assert after(*moving, *[stands] * (ENOUGH - 3)).relief is not None
    assert after(*moving, *[stands] * (ENOUGH - 4)).relief is None


def told(look: Look, optime: int) -> Look:
    """Return a look at which etcd knows another position of the leader."""
    assert look.view is not None
    return replace(look, view=replace(look.view, status=Key(json.dumps({"optime": optime}), 6, 20)))


def beside(leader: Answer | None, standby: Answer | None) -> Look:
    """Return a look at a leader that has told etcd nothing new."""
    return replace(CUT_OFF, answers={"postgres-1": leader, "postgres-2": standby})


SOUND = {
    "it tells etcd": told(CUT_OFF, 101),
    "nothing is written": beside(PRIMARY, STANDBY),
    "the standby has everything": beside(AHEAD, replace(STANDBY, received=101)),
    "the standby is frozen": beside(AHEAD, None),
    "the standby's PostgreSQL does not answer": beside(AHEAD, Answer(primary=False, running=False)),
}


@pytest.mark.parametrize("case", SOUND)
def test_commits_have_to_wait_and_the_lease_not_to_be_renewed(case: str) -> None:
    """Neither alone is a reason, and commits have to wait at three looks in a row."""
    assert after(*[SOUND[case]] * 20).relief is None
    assert after(*[CUT_OFF] * (ENOUGH - 1), SOUND[case], *[CUT_OFF] * 2).relief is None


def test_each_renewal_is_enough() -> None:
    """A leader that writes a lot is always ahead of what it told last."""
    busy = [
        told(beside(replace(PRIMARY, written=200 + turn), STANDBY), 200 + turn - turn % 5 - 1) for turn in range(30)
    ]
    assert after(*busy).relief is None


def test_time_without_etcd_does_not_count() -> None:
    """While nobody can write to it, a leader that does not is not cut off."""
    blind = replace(CUT_OFF, view=None)
    assert after(*[CUT_OFF] * 3, *[blind] * 20, CUT_OFF, CUT_OFF).relief is None
    assert after(*[CUT_OFF] * 3, *[blind] * 20, *[CUT_OFF] * 5).relief is not None


def test_a_standby_that_moves_is_no_reason() -> None:
    """The leader can commit."""
    moving = [beside(replace(PRIMARY, written=500), replace(STANDBY, received=100 + turn)) for turn in range(1, 20)]
    assert after(*moving).relief is None


def test_every_standby_that_streams_has_to_receive_nothing() -> None:
    """The leader waits for each of two; while one has everything the leader is left as it is."""
    view = replace(WHOLE, sync=Key('{"leader":"postgres-1","sync_standby":"postgres-2,postgres-3"}', 3, 11))
    for third, lost in ((STANDBY, True), (None, True), (replace(STANDBY, received=101), False)):
        whole = Look(view, {**WELL.answers, "postgres-3": STANDBY})
        memory, verdict = Memory(), Verdict("")
        for at, look in enumerate([whole] * 4 + [Look(view, {**CUT_OFF.answers, "postgres-3": third})] * 5):
            memory, verdict = decide(memory, replace(look, at=float(at)), LIMITS)
        assert (verdict.relief is not None) == lost


def test_a_standby_that_waits_for_the_leader_stays_in_sight() -> None:
    """It gives up streaming after a while; that alone takes it out of sight only where the leader has gone on."""
    given_up = beside(AHEAD, replace(STANDBY, streaming=False))
    telling = told(given_up, 101)
    assert after(CUT_OFF, *[given_up] * ENOUGH).relief is not None
    assert after(*[telling] * 3, LOST, LOST, LOST).relief is not None
    stopping = beside(Answer(primary=True, running=False), replace(STANDBY, streaming=False))
    demoted = beside(Answer(primary=False), replace(STANDBY, streaming=False))
    stepping_down = [*[telling] * 3, *[stopping] * 3, *[demoted] * 3]
    assert after(*stepping_down[:-1]).relief is None
    assert after(*stepping_down).relief is not None
    taken_out = replace(given_up, view=replace(WHOLE, sync=Key('{"leader":"postgres-1"}', 3, 20)))
    assert after(*[given_up] * 3, *[taken_out] * ENOUGH).relief is None


@pytest.mark.parametrize("case", HOLDS)
def test_what_forbids_to_act_on_a_leader_that_answers(case: str) -> None:
    """The same as with one that does not; what concerns its standby makes it no such case."""
    look, _ = HOLDS[case]
    standby = look.answers["postgres-2"]
    verdict = after(*[replace(look, answers={"postgres-1": AHEAD, "postgres-2": standby})] * 2 * ENOUGH)
    assert verdict.relief is None


def test_who_was_relieved_is_left_until_it_leads_again() -> None:
    """Or until the note ends with the hold-off."""
    note = Key('{"leader": "postgres-1", "witness": "main"}', 20, 20)
    assert relieved(WHOLE) is None
    assert relieved(replace(WHOLE, leader=None, relief=note)) == "postgres-1"
    assert relieved(replace(WHOLE, leader=Key("postgres-2", 30, 30), relief=note)) == "postgres-1"
    assert relieved(replace(WHOLE, relief=note)) is None
    assert relieved(replace(WHOLE, leader=None, relief=Key("?", 20, 20))) is None


def test_without_a_leader_there_is_nothing_to_do() -> None:
    """The standbys race for the lease by themselves."""
    look = Look(replace(WHOLE, leader=None), LOST.answers)
    assert after(look, look, look) == Verdict("nobody holds the lease")


def test_a_silent_standby_stays_in_sight_and_one_that_stopped_streaming_does_not() -> None:
    """A missed answer is no news; "not streaming" is."""
    silent = Look(WHOLE, {"postgres-1": PRIMARY, "postgres-2": None})
    assert after(silent, LOST, LOST, LOST).relief is not None
    stopped = Look(WHOLE, {"postgres-1": PRIMARY, "postgres-2": replace(STANDBY, streaming=False)})
    assert after(stopped, LOST, LOST, LOST).relief is None


def text(value: str) -> str:
    """Return what base64 stands for."""
    return base64.b64decode(value).decode()


class Gateway:
    """As much of etcd's JSON gateway as the witness uses, with etcd's own refusals."""

    def __init__(self) -> None:
        """Begin with the keys of a whole cluster."""
        self.revision = 50
        self.keys: dict[str, Key] = {
            PATHS[name]: key for name in View.__dataclass_fields__ if (key := getattr(WHOLE, name))
        }
        self.leases: dict[str, set[str]] = {}
        self.tokens: set[str] = set()
        self.logins = 0
        self.version = "3.5"
        self.begun_anew = False

    def __call__(self, request: Request) -> HttpAnswer:
        """Answer a request over HTTP."""
        body = json.loads(request.body)
        path = request.path.removeprefix("/v3/")
        if path == "auth/authenticate":
            assert body == {"name": "patroni_witness", "password": "secret"}
            self.logins += 1
            self.tokens.add(f"token.{self.logins}")
            return 200, json.dumps({"token": f"token.{self.logins}"}).encode()
        if request.headers.get("authorization") not in self.tokens:
            if self.begun_anew:
                time.sleep(1.5)
            return 401, self.refusal("etcdserver: invalid auth token", 16)
        try:
            answer: dict[str, Any] = getattr(self, path.replace("/", "_"))(body)
        except LookupError:
            return 404, self.refusal("etcdserver: requested lease not found", 5)
        return 200, json.dumps({"header": {"revision": str(self.revision)}, **answer}).encode()

    def refusal(self, message: str, code: int) -> bytes:
        """Refuse as the version does: 3.4 says why twice."""
        return json.dumps(
            {"message": message, "code": code} | ({"error": message} if self.version == "3.4" else {})
        ).encode()

    def lease_grant(self, body: dict[str, Any]) -> dict[str, Any]:
        """Give a lease."""
        name = str(7_000_000_000_000_000_001 + len(self.leases))
        self.leases[name] = set()
        return {"ID": name, "TTL": str(body["TTL"])}

    def kv_txn(self, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out a transaction."""
        for compare in body.get("compare", []):
            key = self.keys.get(text(compare["key"]), Key("", 0, 0))
            assert (compare["target"], compare["result"]) == ("MOD", "EQUAL")
            if str(key.modified) != compare["mod_revision"]:
                return {}
        responses = []
        self.revision += any("request_range" not in one for one in body["success"])
        for operation in body["success"]:
            ((kind, one),) = operation.items()
            name = text(one["key"])
            found_key = self.keys.get(name)
            if kind == "request_range":
                responses.append({"response_range": self.found(name, found_key)})
            elif kind == "request_delete_range":
                self.keys.pop(name, None)
            else:
                created = found_key.created if found_key else self.revision
                self.keys[name] = Key(text(one["value"]), created, self.revision)
                if "lease" in one:
                    self.leases[one["lease"]].add(name)
        return {"succeeded": True, "responses": responses}

    @staticmethod
    def found(name: str, key: Key | None) -> dict[str, Any]:
        """Return the answer to a range of one key; what is empty is left out."""
        if key is None:
            return {"header": {}}
        value = {"value": base64.b64encode(key.value.encode()).decode()} if key.value else {}
        encoded = base64.b64encode(name.encode()).decode()
        revisions = {"create_revision": str(key.created), "mod_revision": str(key.modified)}
        return {"kvs": [{"key": encoded, **revisions, **value}], "count": "1"}


@pytest.fixture
def gateway() -> Gateway:
    """Return an etcd."""
    return Gateway()


@pytest.fixture
def etcd(gateway: Gateway, tmp_path: Path) -> Iterator[Etcd]:
    """Return a client of that etcd whose first member takes connections and says nothing."""
    (tmp_path / "password").write_text("secret\n", encoding="utf-8")
    with ExitStack() as stack:
        server = stack.enter_context(serve(tmp_path, gateway, client_certificate=True))
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tls = ssl.create_default_context(cafile=str(server.certificate))
        tls.load_cert_chain(server.certificate, server.key)
        urls = [f"https://localhost:{mute.getsockname()[1]}", server.url]
        endpoints = [Endpoint(url, tls, "patroni_witness", tmp_path / "password", 1.0) for url in urls]
        yield Etcd(endpoints, PATHS, 1.0)
        for endpoint in endpoints:
            endpoint.connection.close()


def test_transaction_in_the_form_of_the_gateway() -> None:
    """Keys and values are base64, numbers are texts, and only passing keys hang on the lease."""
    compares = [Compare("leader", 12), Compare("relief", 0)]
    changes: list[Delete | Put] = [Delete("leader"), Put("sync", "{}"), Put("relief", "note", passing=True)]
    leader, sync, relief = (base64.b64encode(PATHS[name].encode()).decode() for name in ("leader", "sync", "relief"))
    assert transaction(PATHS, compares, changes, "99") == {
        "compare": [
            {"key": leader, "target": "MOD", "result": "EQUAL", "mod_revision": "12"},
            {"key": relief, "target": "MOD", "result": "EQUAL", "mod_revision": "0"},
        ],
        "success": [
            {"request_delete_range": {"key": leader}},
            {"request_put": {"key": sync, "value": "e30="}},
            {"request_put": {"key": relief, "value": "bm90ZQ==", "lease": "99"}},
        ],
    }


def test_a_mute_member_costs_only_a_short_wait(etcd: Etcd) -> None:
    """The next one is asked after a fifth of a second, and first from then on."""
    begun = time.monotonic()
    assert etcd.view() == WHOLE
    assert time.monotonic() - begun < 0.9
    etcd.view()
    assert etcd.endpoints[0].token
    assert not etcd.endpoints[1].token


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_an_ended_token_is_replaced(etcd: Etcd, gateway: Gateway, version: str) -> None:
    """Without the caller noticing, whichever way the version of etcd says so."""
    gateway.version = version
    etcd.view()
    gateway.tokens.clear()
    etcd.view()
    assert gateway.logins == 2


def test_a_token_of_before_etcd_was_begun_anew_is_replaced(
    etcd: Etcd, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no answer as long as etcd's index is behind the token's."""
    monkeypatch.setattr("patroni_witness.etcd.SILENCE", 0)
    etcd.view()
    gateway.tokens.clear()
    gateway.begun_anew = True
    with pytest.raises(EtcdError):
        etcd.view()
    # The question is still open for a moment.
    etcd.asked[etcd.endpoints[0].url].exception()
    assert etcd.view() == WHOLE
    assert gateway.logins == 2


def test_nobody_answers(tmp_path: Path) -> None:
    """That is an error, in time."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"https://127.0.0.1:{mute.getsockname()[1]}"
        (tmp_path / "password").write_text("secret", encoding="utf-8")
        lonely = Etcd([Endpoint(url, ssl.create_default_context(), "x", tmp_path / "password", 0.3)], PATHS, 0.2)
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(EtcdError):
                lonely.view()
            assert time.monotonic() - begun < 0.3


def test_two_witnesses_relieve_a_leader_once(etcd: Etcd) -> None:
    """Each acts by itself; what the first one changes, the second one compares."""
    reliefs = [after(LOST, LOST, LOST).relief for _ in range(2)]
    assert [etcd.change(one.compares, one.changes, etcd.lease(60)) for one in reliefs if one] == [True, False]


class FakeMembers(Members):
    """Members that answer what the test says."""

    def __init__(self) -> None:
        """Begin with a whole pair."""
        self.said: dict[str, Answer | None] = dict(WELL.answers)

    def begin(self) -> None:
        """Need not ask."""

    def answers(self, begun: float) -> dict[str, Answer | None]:  # noqa: ARG002 - as the real ones
        """Return what was set."""
        return dict(self.said)


@pytest.fixture
def witness(etcd: Etcd, tmp_path: Path) -> Iterator[Witness]:
    """Return a witness of a whole pair, which trusts the leader."""
    report = Report("main", tmp_path / "status.json", tmp_path / "witness.prom")
    made = Witness("main", etcd, FakeMembers(), Agent(0), report, LIMITS, interval=0, hold_off=60)
    for _ in range(5):
        made.turn()
    yield made
    made.agent.avoid(None)
    made.agent.leave()


def status(witness: Witness) -> dict[str, Any]:
    """Return what the status file says."""
    content: dict[str, Any] = json.loads(witness.report.path.read_text("utf-8"))
    return content


def test_the_witness_acts_once_and_says_so(
    witness: Witness, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """The leader's key goes, sync gets a new revision, and the journal has a line for each change and no more."""
    assert status(witness)["ready"]
    assert "patroni_witness_ready 1\n" in witness.report.metrics.read_text("utf-8")
    assert isinstance(witness.members, FakeMembers)
    witness.members.said["postgres-1"] = None
    for _ in range(6):
        witness.turn()
    assert PATHS["leader"] not in gateway.keys
    assert gateway.keys[PATHS["sync"]].modified == gateway.keys[PATHS["relief"]].modified
    assert witness.report.last is not None
    assert witness.report.last["outcome"] == "done"
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "postgres-1 is lost; it is relieved.",
        "relieving postgres-1 in favour of postgres-2: done.",
        "nobody holds the lease.",
    ]
    found = status(witness)
    assert found["reason"] == "nobody holds the lease"
    assert found["last"]["leader"] == "postgres-1"
    assert not found["ready"]
    assert "patroni_witness_ready 0\n" in witness.report.metrics.read_text("utf-8")


def address_of(witness: Witness) -> tuple[str, int]:
    """Return where HAProxy asks."""
    return "127.0.0.1", witness.agent.server.server_address[1]


def asked(witness: Witness, name: str) -> bytes:
    """Ask as HAProxy does."""
    with socket.create_connection(address_of(witness), timeout=2) as connection:
        connection.sendall(name.encode() + b"\n")
        return connection.recv(10)


def test_haproxy_is_told_to_leave_the_relieved_one(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the look after; and when the witness ends, that nobody is down, until HAProxy must have asked."""
    assert isinstance(witness.members, FakeMembers)
    assert asked(witness, "postgres-1") == b"up\n"
    witness.members.said["postgres-1"] = None
    for _ in range(4):
        witness.turn()
    assert [asked(witness, name) for name in ("postgres-1", "postgres-2")] == [b"down\n", b"up\n"]
    waits: list[tuple[float, bytes]] = []

    def sleep(seconds: float) -> None:
        waits.append((seconds, asked(witness, "postgres-1")))

    monkeypatch.setattr("patroni_witness.agent.time.sleep", sleep)
    address = address_of(witness)
    witness.agent.leave()
    assert waits == [(2, b"up\n")]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=2)


def test_who_asks_haproxys_question_and_goes_away_does_no_harm(witness: Witness) -> None:
    """Nor does one that says nothing."""
    address = address_of(witness)
    socket.create_connection(address).close()
    with socket.create_connection(address):
        assert asked(witness, "postgres-1") == b"up\n"


def test_a_change_in_between_is_respected(witness: Witness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync key that was written after the look keeps the leader in place."""
    assert isinstance(witness.members, FakeMembers)
    witness.members.said["postgres-1"] = None
    lease = witness.etcd.lease

    def meanwhile(seconds: int) -> str:
        sync = gateway.keys[PATHS["sync"]]
        gateway.keys[PATHS["sync"]] = replace(sync, modified=gateway.revision)
        return lease(seconds)

    monkeypatch.setattr(witness.etcd, "lease", meanwhile)
    for _ in range(3):
        witness.turn()
    assert PATHS["leader"] in gateway.keys
    assert witness.report.last is not None
    assert "changed in between" in witness.report.last["outcome"]


def test_a_lost_answer_is_looked_up(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction arrived and its answer did not: the note in etcd tells."""
    assert isinstance(witness.members, FakeMembers)
    witness.members.said["postgres-1"] = None
    change = witness.etcd.change

    def deaf(*arguments: Any) -> int:
        change(*arguments)
        raise EtcdError("timed out")

    monkeypatch.setattr(witness.etcd, "change", deaf)
    for _ in range(3):
        witness.turn()
    assert witness.report.last is not None
    assert witness.report.last["outcome"] == "done"


def test_systemd_hears_that_it_is_ready_and_alive(
    witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each look, until it is told to stop."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    turns = iter([False, False, True])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        witness.run(lambda: next(turns))
        assert [listener.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]


def test_the_journal_gets_notices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By the prefix that systemd understands."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    service.say("Text.")
    assert capsys.readouterr().out == "<5>Text.\n"


def test_members_are_asked_at_the_same_time(tmp_path: Path) -> None:
    """One that answers is read, whatever its status code; one that does not costs no more than the patience."""
    said = {"role": "replica", "state": "running", "replication_state": "streaming", "xlog": {"received_location": 7}}
    with serve(tmp_path, lambda _: (503, json.dumps(said).encode()), client_certificate=True) as server:
        tls = ssl.create_default_context(cafile=str(server.certificate))
        tls.load_cert_chain(server.certificate, server.key)
        port = int(server.url.rpartition(":")[2])
        members = Members({"postgres-1": "192.0.2.1", "postgres-2": "127.0.0.1"}, tls, 0.5, port)
        begun = time.monotonic()
        members.begin()
        answers = members.answers(begun)
        assert time.monotonic() - begun < 0.8
    assert answers == {"postgres-1": None, "postgres-2": Answer(primary=False, streaming=True, received=7)}


def test_a_question_that_fails_late_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was missed at its own look. Counted at the next one as well, a single lost packet would be two misses."""
    said = json.dumps({"role": "primary", "state": "running"}).encode()
    with serve(tmp_path, lambda _: (200, said), client_certificate=True) as server:
        tls = ssl.create_default_context(cafile=str(server.certificate))
        tls.load_cert_chain(server.certificate, server.key)
        members = Members({"postgres-1": "127.0.0.1"}, tls, 1.0, int(server.url.rpartition(":")[2]))
        failing, ask = threading.Event(), members.ask

        def fail(_: str) -> Answer:
            failing.wait()
            raise TimeoutError

        monkeypatch.setattr(members, "ask", fail)
        members.begin()
        assert members.answers(time.monotonic() - 1.0) == {"postgres-1": None}
        monkeypatch.setattr(members, "ask", ask)
        begun = time.monotonic()
        members.begin()
        threading.Timer(0.1, failing.set).start()
        assert members.answers(begun) == {"postgres-1": Answer(primary=True)}


def test_a_primary_says_how_far_it_has_written() -> None:
    """As Patroni 4.1 puts it."""
    said = {"state": "running", "role": "primary", "xlog": {"location": 9}}
    assert read_answer(json.dumps(said).encode()) == Answer(primary=True, written=9)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>"])
def test_nonsense_is_no_answer(body: bytes) -> None:
    """Whatever else answers on that port says nothing about PostgreSQL."""
    with pytest.raises(ValueError, match=r"not an object|Expecting value"):
        read_answer(body)
