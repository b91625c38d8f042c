"""The app's registration."""

from django.apps import AppConfig


class PollsConfig(AppConfig):
    """The polls app."""

    name = "polls"
