"""`manage.py check_ledger`: does the ledger explain every tally?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from polls.models import Choice
from sreproject.router import PRIMARY, STANDBY


class Command(BaseCommand):
    """Compare each tally with its opening count and its votes in the ledger."""

    help = "Compare each tally with opening count + ledger; exit with 1 when one differs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the standby be checked as well."""
        parser.add_argument("--database", choices=(PRIMARY, STANDBY), default=PRIMARY)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the table and the verdict."""
        wrong = 0
        self.stdout.write(f"{'choice':>6} {'opening':>8} {'ledger':>8} {'tally':>8}  verdict")
        for choice in Choice.ledger(options["database"]):
            difference = choice.votes - choice.opening - choice.cast
            verdict = f"WRONG by {difference:+d}" if difference else "ok"
            wrong += bool(difference)
            self.stdout.write(
                f"{choice.id:>6} {choice.opening:>8} {choice.cast:>8} {choice.votes:>8}  "
                f"{verdict:<12} {choice.choice_text}"
            )
        if wrong:
            raise CommandError(f"{wrong} tallies are not explained by the ledger", returncode=1)
        self.stdout.write("every tally equals its opening count plus its votes in the ledger")
