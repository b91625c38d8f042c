"""The admin: questions with their choices; the ledger to look at only."""

from django.contrib import admin
from django.http import HttpRequest

from polls.models import Choice, Question, Vote


class ChoiceInline(admin.TabularInline):  # type: ignore[type-arg] # only generic in the stubs
    """Choices within their question; the tally follows from votes and cannot be edited."""

    model = Choice
    extra = 1
    readonly_fields = ("votes",)


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Questions, newest first."""

    inlines = (ChoiceInline,)
    list_display = ("question_text", "pub_date")
    list_filter = ("pub_date",)
    search_fields = ("question_text",)
    ordering = ("-pub_date", "-id")


@admin.register(Vote)
class VoteAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The ledger. A changed row would no longer explain the tally."""

    list_display = ("token", "choice", "created")
    list_select_related = ("choice",)
    list_filter = ("choice__question",)
    ordering = ("-created",)
    show_full_result_count = False

    def has_add_permission(self, _request: HttpRequest) -> bool:
        """Votes are cast, not entered."""
        return False

    def has_change_permission(self, _request: HttpRequest, _vote: Vote | None = None) -> bool:
        """Nobody changes a vote."""
        return False

    def has_delete_permission(self, _request: HttpRequest, _vote: Vote | None = None) -> bool:
        """Nobody deletes a vote."""
        return False
