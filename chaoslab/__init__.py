"""Chaos experiments: voters and readers, samples of the cluster, the check of the ledger, verdicts and reports."""

__version__ = "1.0"
