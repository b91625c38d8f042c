"""The vote as a browser or a script sends it."""

from django import forms


class VoteForm(forms.Form):
    """A choice, and the token that makes the vote count once."""

    choice = forms.IntegerField(
        error_messages={
            "required": "You didn't select a choice.",
            "invalid": "You didn't select a choice.",
        }
    )
    token = forms.UUIDField(
        error_messages={
            "required": "The form was incomplete. Please vote again.",
            "invalid": "The form was incomplete. Please vote again.",
        }
    )
