"""The polls application."""
