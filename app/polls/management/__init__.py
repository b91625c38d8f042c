"""Management code of the polls application."""
