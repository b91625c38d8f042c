"""The commands for those who run it."""

import io
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from polls.models import Choice, Question, Vote

REFERENCE = [
    (1, "Nothing much working on the sre project", 16, 1),
    (2, "Yayyy. Done with the project", 8, 1),
    (3, "Nope everything's fine.", 23, 2),
    (4, "Bad day man. Nothing is working properly", 9, 2),
    (5, "Some issues, fixed it tho", 4, 2),
    (6, "Diwali", 12, 3),
    (7, "Halloween", 3, 3),
    (8, "Neither", 2, 3),
]
COLUMNS = ("id", "choice_text", "votes", "question_id")
PASSWORD = "correct horse battery"

pytestmark = pytest.mark.django_db


def run(*command: str) -> str:
    """Run a command and return what it prints."""
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue().strip()


def ensure_admin(monkeypatch: pytest.MonkeyPatch, password: str) -> str:
    """Run ensure_admin with a password on its standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return run("ensure_admin", "--username", "admin")


def test_seed_gives_the_reference_data_and_moves_the_sequences_on() -> None:
    """The rows are the reference's, and the next id is free."""
    assert run("seed") == "seeded 3 questions, 8 choices"
    assert list(Choice.objects.order_by("id").values_list(*COLUMNS)) == REFERENCE
    question = Question.objects.create(question_text="And now?")
    assert question.pk == 4
    assert question.choice_set.create(choice_text="Now.").pk == 9


def test_seeding_again_changes_nothing() -> None:
    """Votes, edits and deletions survive a second run."""
    run("seed")
    Choice.objects.filter(pk=1).update(votes=17)
    Question.objects.filter(pk=3).delete()
    before = list(Choice.objects.order_by("id").values_list(*COLUMNS))
    assert run("seed") == "nothing to seed"
    assert list(Choice.objects.order_by("id").values_list(*COLUMNS)) == before


@pytest.mark.usefixtures("seeded")
def test_check_ledger_accepts_what_adds_up() -> None:
    """Opening counts and votes together are the tally."""
    Vote.objects.create(token="00000000-0000-4000-8000-000000000001", choice_id=1)
    Choice.objects.filter(pk=1).update(votes=17)
    lines = run("check_ledger").splitlines()
    assert lines[1].split()[:5] == ["1", "16", "1", "17", "ok"]
    assert len(lines) == 1 + len(REFERENCE) + 1
    assert lines[-1].startswith("every tally equals")


@pytest.mark.parametrize(("votes", "difference"), [(15, "-1"), (18, "+2")])
@pytest.mark.usefixtures("seeded")
def test_check_ledger_names_what_does_not(votes: int, difference: str) -> None:
    """A lost and a doubled vote are seen, and the exit code is 1."""
    Choice.objects.filter(pk=1).update(votes=votes)
    out = StringIO()
    with pytest.raises(CommandError, match="ledger does not explain: 1") as caught:
        call_command("check_ledger", stdout=out)
    assert caught.value.returncode == 1
    assert f"WRONG by {difference}" in out.getvalue()


@pytest.mark.django_db(transaction=True, databases=["default", "failover1"])
@pytest.mark.usefixtures("live")
def test_check_ledger_can_ask_the_standby() -> None:
    """The standby must show the same."""
    assert "every tally equals" in run("check_ledger", "--database", "failover1")


def test_ensure_admin_creates_updates_and_leaves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run says what it did."""
    assert ensure_admin(monkeypatch, PASSWORD) == "created"
    assert ensure_admin(monkeypatch, PASSWORD) == "unchanged"
    assert ensure_admin(monkeypatch, PASSWORD + "!") == "updated"
    User.objects.filter(username="admin").update(is_superuser=False)
    assert ensure_admin(monkeypatch, PASSWORD + "!") == "updated"
    admin = User.objects.get(username="admin")
    assert admin.is_superuser
    assert admin.check_password(PASSWORD + "!")


@pytest.mark.parametrize("password", ["", "short", "12345678901"])
def test_ensure_admin_refuses_a_weak_password(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """Nothing is changed then."""
    with pytest.raises(CommandError, match="refused: This password is"):
        ensure_admin(monkeypatch, password)
    assert not User.objects.exists()


@override_settings(ALLOWED_HOSTS=["polls.example"])
def test_the_deployment_check_is_silent() -> None:
    """Django finds nothing to complain of."""
    call_command("check", "--deploy", "--fail-level", "WARNING")
