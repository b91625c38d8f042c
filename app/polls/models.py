"""Questions, their choices, and the ledger of votes."""

from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class Question(models.Model):
    """Something to vote on."""

    question_text = models.CharField(max_length=200)
    pub_date = models.DateTimeField("date published", default=timezone.now)

    def __str__(self) -> str:
        """Return the text."""
        return self.question_text


class Choice(models.Model):
    """One answer and its tally."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE)
    choice_text = models.CharField(max_length=200)
    votes = models.PositiveIntegerField(default=0, editable=False)

    def __str__(self) -> str:
        """Return the text."""
        return self.choice_text

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save all but the tally of a choice that exists: votes are cast while it is edited."""
        if not self._state.adding and kwargs.get("update_fields") is None:
            kwargs["update_fields"] = {"question", "choice_text"}
        super().save(*args, **kwargs)


class OpeningCount(models.Model):
    """The votes a choice had before the ledger began: tally = opening count + ledger.

    A table of its own, so that polls_choice keeps the columns it always had.
    """

    choice = models.OneToOneField(Choice, on_delete=models.CASCADE, primary_key=True)
    votes = models.PositiveIntegerField()

    def __str__(self) -> str:
        """Return the count."""
        return str(self.votes)


class Vote(models.Model):
    """One vote in the ledger. The token comes with the form, so that a repeat is recognised."""

    token = models.UUIDField(primary_key=True)
    # A choice that was voted for cannot be deleted: the ledger is never shortened in passing.
    choice = models.ForeignKey(Choice, on_delete=models.PROTECT)
    created = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        """Return the token."""
        return str(self.token)
