"""`manage.py check_ledger` tells whether the ledger explains every tally."""

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, F
from django.db.models.functions import Coalesce

from polls.models import Choice
from sreproject.router import PRIMARY, STANDBY


class Command(BaseCommand):
    """Compare each tally with its opening count and its votes in the ledger."""

    help = "Compare each tally with opening count + ledger; exit with 1 when one differs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the standby be checked as well."""
        parser.add_argument("--database", choices=(PRIMARY, STANDBY), default=PRIMARY)

    def handle(self, *_args: object, **options: str) -> None:
        """Print the table and the verdict, all from one statement and hence one moment."""
        rows = (
            Choice.objects.using(options["database"])
            .annotate(opening=Coalesce(F("openingcount__votes"), 0), ledger=Count("vote"))
            .order_by("id")
            .values_list("id", "choice_text", "opening", "ledger", "votes")
        )
        wrong = 0
        self.stdout.write(f"{'choice':>6} {'opening':>8} {'ledger':>8} {'tally':>8}  verdict")
        for choice, text, opening, ledger, tally in rows:
            difference = tally - opening - ledger
            verdict = f"WRONG by {difference:+d}" if difference else "ok"
            wrong += bool(difference)
            self.stdout.write(f"{choice:>6} {opening:>8} {ledger:>8} {tally:>8}  {verdict:<12} {text}")
        if wrong:
            raise CommandError(f"tallies that the ledger does not explain: {wrong}", returncode=1)
        self.stdout.write("every tally equals its opening count plus its votes in the ledger")
