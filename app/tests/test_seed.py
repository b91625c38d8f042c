"""Seeding."""

from io import StringIO

import pytest
from django.core.management import call_command

from polls.models import Choice, Question

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


def seed() -> str:
    """Run the command and return what it prints."""
    out = StringIO()
    call_command("seed", stdout=out)
    return out.getvalue().strip()


@pytest.mark.django_db
def test_seed_gives_the_reference_data_and_moves_the_sequences_on() -> None:
    """The rows are the reference's, and the next id is free."""
    assert seed() == "seeded 3 questions, 8 choices"
    assert list(Choice.objects.order_by("id").values_list(*COLUMNS)) == REFERENCE
    question = Question.objects.create(question_text="And now?")
    assert question.pk == 4
    assert question.choice_set.create(choice_text="Now.").pk == 9


@pytest.mark.django_db
def test_seeding_again_changes_nothing() -> None:
    """Votes, edits and deletions survive a second run."""
    seed()
    Choice.objects.filter(pk=1).update(votes=17)
    Question.objects.filter(pk=3).delete()
    before = list(Choice.objects.order_by("id").values_list(*COLUMNS))
    assert seed() == "nothing to seed"
    assert list(Choice.objects.order_by("id").values_list(*COLUMNS)) == before
