"""`manage.py ensure_admin`: an administrator with the password read from standard input."""

import sys

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction


class Command(BaseCommand):
    """Create the administrator, or mend what differs."""

    help = "Ensure an administrator; the password is one line on standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the name as an argument; the password never, as others could see it there."""
        parser.add_argument("--username", required=True)

    def handle(self, *_args: object, **options: str) -> None:
        """Print created, updated or unchanged."""
        password = sys.stdin.readline().rstrip("\r\n")
        with transaction.atomic():
            self.stdout.write(_ensure(options["username"], password))


def _ensure(username: str, password: str) -> str:
    """Bring the account to the wanted state and say what that took."""
    users = get_user_model().objects
    user = users.select_for_update().filter(username=username).first()
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise CommandError(f"refused: {' '.join(error.messages)}") from None
    if user is None:
        users.create_superuser(username=username, password=password)
        return "created"
    if all((user.is_active, user.is_staff, user.is_superuser, user.check_password(password))):
        return "unchanged"
    user.is_active = user.is_staff = user.is_superuser = True
    user.set_password(password)
    user.save()
    return "updated"
