"""Small programs for maintaining this repository."""
