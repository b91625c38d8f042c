"""Relieve a lost PostgreSQL primary of its lease, where its synchronous standby can take over without a loss."""
