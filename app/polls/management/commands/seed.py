"""`manage.py seed`: load the reference project's questions into an empty database."""

import tomllib
from pathlib import Path

from django.core.management.base import BaseCommand
from django.core.management.color import no_style
from django.db import connection, transaction

import polls
from polls.models import Choice, OpeningCount, Question

SEED = Path(polls.__file__).with_name("seed.toml")


class Command(BaseCommand):
    """Seed once: a database that holds any question is left as it is."""

    help = "Load the opening questions, choices and counts unless there are questions already."

    def handle(self, *_args: object, **_options: object) -> None:
        """Do all or nothing."""
        with transaction.atomic(), connection.cursor() as cursor:
            # Two app hosts may be set up at the same time.
            cursor.execute("LOCK TABLE polls_question IN SHARE ROW EXCLUSIVE MODE")
            if Question.objects.exists():
                self.stdout.write("nothing to seed")
                return
            questions, choices = _load()
            for statement in connection.ops.sequence_reset_sql(no_style(), [Question, Choice]):
                cursor.execute(statement)
        self.stdout.write(f"seeded {questions} questions, {choices} choices")


def _load() -> tuple[int, int]:
    """Insert the rows of the seed file under their fixed ids; return how many."""
    questions, choices, counts = [], [], []
    for entry in tomllib.loads(SEED.read_text(encoding="utf-8"))["questions"]:
        question = Question(id=entry["id"], question_text=entry["text"])
        questions.append(question)
        for item in entry["choices"]:
            choice = Choice(id=item["id"], question=question, choice_text=item["text"], votes=item["votes"])
            choices.append(choice)
            counts.append(OpeningCount(choice=choice, votes=item["votes"]))
    Question.objects.bulk_create(questions)
    Choice.objects.bulk_create(choices)
    OpeningCount.objects.bulk_create(counts)
    return len(questions), len(choices)
