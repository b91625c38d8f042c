"""The pages of the polls."""

import logging
import uuid

from django.db import OperationalError
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from polls.forms import VoteForm
from polls.models import Choice, Question
from polls.voting import UnknownChoiceError, cast_vote
from sreproject.outage import DatabaseUnavailableError, first_line
from sreproject.reads import read
from sreproject.views import unavailable

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """List the questions, newest first."""

    def query() -> list[Question]:
        published = Question.objects.filter(pub_date__lte=timezone.now())
        return list(published.annotate(votes=Sum("choice__votes")).order_by("-pub_date", "-id"))

    questions, from_standby = read(query)
    context = {"questions": questions, "from_standby": from_standby}
    return render(request, "polls/index.html", context)


@never_cache
@require_safe
def detail(request: HttpRequest, question_id: int) -> HttpResponse:
    """Show a question with its choices to vote for."""
    return _ballot(request, question_id)


@never_cache
@require_safe
def results(request: HttpRequest, question_id: int) -> HttpResponse:
    """Show how the votes stand."""
    question, choices, from_standby = _question(question_id)
    total = sum(choice.votes for choice in choices)
    rows = [(choice, 100 * choice.votes / total if total else 0) for choice in choices]
    context = {"question": question, "rows": rows, "total": total, "from_standby": from_standby}
    return render(request, "polls/results.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def vote(request: HttpRequest, question_id: int) -> HttpResponse:
    """Count a vote and go on to the results."""
    if request.method != "POST":  # the address of the page that asks to send a vote again
        return redirect("polls:detail", question_id)
    form = VoteForm(request.POST)
    if not form.is_valid():
        return _ballot(request, question_id, *(str(errors[0]) for errors in form.errors.values()))
    choice, token = form.cleaned_data["choice"], form.cleaned_data["token"]
    try:
        cast_vote(question_id, choice, token)
    except UnknownChoiceError:
        return _ballot(request, question_id, "That choice does not exist.")
    except (DatabaseUnavailableError, OperationalError) as error:
        logger.warning("vote: unconfirmed: %s", first_line(error))
        context = {"question_id": question_id, "choice": choice, "token": token}
        return unavailable(request, "polls/unconfirmed.html", context)
    return redirect("polls:results", question_id)


def _ballot(request: HttpRequest, question_id: int, *errors: str) -> HttpResponse:
    """Show the form, with what was wrong with the vote before."""
    question, choices, from_standby = _question(question_id)
    context = {
        "question": question,
        "choices": choices,
        "token": uuid.uuid4(),
        "errors": errors,
        "from_standby": from_standby,
    }
    return render(request, "polls/detail.html", context, status=400 if errors else 200)


def _question(question_id: int) -> tuple[Question, list[Choice], bool]:
    """Read a question and its choices, or answer 404."""

    def query() -> tuple[Question | None, list[Choice]]:
        published = Question.objects.filter(pub_date__lte=timezone.now())
        question = published.filter(pk=question_id).first()
        return question, list(question.choice_set.order_by("id")) if question else []

    (question, choices), from_standby = read(query)
    if question is None:
        raise Http404
    return question, choices, from_standby
