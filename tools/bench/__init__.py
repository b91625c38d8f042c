"""Measure what the site costs and what it gives, beside something plainer on the same machine: `make bench`."""
