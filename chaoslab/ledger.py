"""The check of the ledger: what voters were told against what each database holds. Pure functions over data.

As in Jepsen's test of a set: every acknowledged element must be there, and nothing that nobody added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chaoslab import tokens
from chaoslab.records import Contents, RequestLog, Tally
from chaoslab.voter import FAIL, INFO, OK


@dataclass(frozen=True)
class NodeCheck:
    """What is wrong with one database. Tokens are sorted.

    lost: acknowledged in this run and not there. given_up: the same, where a restore may lose it.
    lost_earlier: there before the run and not any more.
    unexpected: with this run's mark, and never sent or surely refused. altered: for another choice than was sent.
    doubled: in the ledger more than once. landed: outcome unknown to the voter, and there.
    foreign: new and without this run's mark, so cast by somebody else.
    tally_excess, tally_shortfall: votes by which tallies differ from opening count plus ledger, up and down.
    tally_doubled: the part of the excess that is not explained by rows that are missing.
    """

    lost: tuple[str, ...]
    given_up: tuple[str, ...]
    lost_earlier: tuple[str, ...]
    unexpected: tuple[str, ...]
    altered: tuple[str, ...]
    doubled: tuple[str, ...]
    landed: tuple[str, ...]
    foreign: tuple[str, ...]
    tally_excess: int
    tally_shortfall: int
    tally_doubled: int
    rows: int


@dataclass(frozen=True)
class Check:
    """The check of all databases. A vote that is wrong on two of them is one wrong vote.

    tables: those whose checksums differ, sorted; none while somebody else votes, for the databases are read in turn.
    """

    nodes: Mapping[str, NodeCheck]
    differing: tuple[str, ...]
    tables: tuple[str, ...]

    def union(self, name: str) -> tuple[str, ...]:
        """Return the tokens that any node has under one of NodeCheck's names, sorted."""
        return tuple(sorted({token for node in self.nodes.values() for token in getattr(node, name)}))

    @property
    def doubled(self) -> int:
        """Votes counted more than once: twice in the ledger, or in the tally beyond it (the worst node)."""
        return max((len(node.doubled) + node.tally_doubled for node in self.nodes.values()), default=0)

    @property
    def tally_difference(self) -> int:
        """Votes by which tallies and ledger disagree, up or down (the worst node)."""
        return max((node.tally_excess + node.tally_shortfall for node in self.nodes.values()), default=0)

    @property
    def landed(self) -> int:
        """Votes whose voter does not know, and that count: on every node."""
        found = [set(node.landed) for node in self.nodes.values()]
        return len(set.intersection(*found)) if found else 0


@dataclass(frozen=True)
class Span:
    """A time that a restore may lose, wall clock in seconds: the votes that were acknowledged in it."""

    begin: float
    end: float


def check(
    run: RequestLog, before: Contents | None, after: Mapping[str, Contents], given_up: Span | None = None
) -> Check:
    """Check every node's contents after the votes of a run.

    `before` is what the primary held before the first vote; without it, earlier rows are neither missed nor told from
    new ones. A voter that was killed has sent votes that it could not write down: rows with its mark that are not among
    its votes are then taken as landed, not as unexpected.
    """
    nodes = {name: _check_node(run, before, contents, given_up) for name, contents in after.items()}
    rows = [Counter(contents.rows) for contents in after.values()]
    foreign = {token for node in nodes.values() for token in node.foreign}
    anywhere = {row for found in rows for row in found}
    differing = {row.token for row in anywhere if len({found[row] for found in rows}) > 1}
    openings = {
        frozenset((key, value.opening) for key, value in contents.tallies.items()) for contents in after.values()
    }
    labels = (f"opening counts: {len(openings)} versions",) if len(openings) > 1 else ()
    everything = [contents.tables for contents in after.values()]
    names = {name for found in everything for name in found}
    tables = {name for name in names if len({found.get(name) for found in everything}) > 1}
    others_vote = bool(differing & foreign)
    return Check(nodes, (*sorted(differing - foreign), *labels), () if others_vote else _sorted(tables))


def _check_node(run: RequestLog, before: Contents | None, contents: Contents, given_up: Span | None) -> NodeCheck:
    tried = {vote.token: vote for vote in run.requests}
    counts = Counter(row.token for row in contents.rows)
    stored = set(counts)
    earlier = {row.token for row in before.rows} if before else set()
    earlier -= tried.keys()
    marked = {token for token in stored if tokens.is_of(run.mark, token)}
    unsent = {token for token in marked if token not in tried}
    refused = {token for token, vote in tried.items() if vote.outcome == FAIL and token in stored}
    foreign = stored - marked - tried.keys() - earlier if before else set()
    unexpected = refused | (set() if run.ended is None else unsent)
    landed = {token for token, vote in tried.items() if vote.outcome == INFO and token in stored}
    wanted = {row.token: row.choice for row in before.rows} if before else {}
    wanted |= {vote.token: vote.choice for vote in tried.values()}
    cast = Counter(row.choice for row in contents.rows)
    choices = cast.keys() | contents.tallies.keys()
    nothing = Tally(0, 0)
    tallies = {choice: contents.tallies.get(choice, nothing) for choice in choices}
    gone = {token for token, vote in tried.items() if vote.outcome == OK and token not in stored}
    allowed = {token for token in gone if given_up and given_up.begin <= tried[token].done <= given_up.end}
    missing = Counter(wanted[token] for token in gone | (earlier - stored))
    excess = {choice: tally.votes - tally.opening - cast[choice] for choice, tally in tallies.items()}
    return NodeCheck(
        lost=_sorted(gone - allowed),
        given_up=_sorted(allowed),
        lost_earlier=_sorted(earlier - stored),
        unexpected=_sorted(unexpected),
        altered=_sorted({row.token for row in contents.rows if wanted.get(row.token, row.choice) != row.choice}),
        doubled=_sorted(token for token, count in counts.items() if count > 1),
        landed=_sorted(landed | (unsent if run.ended is None else set())),
        foreign=_sorted(foreign),
        tally_excess=sum(value for value in excess.values() if value > 0),
        tally_shortfall=-sum(value for value in excess.values() if value < 0),
        tally_doubled=sum(max(0, value - missing[choice]) for choice, value in excess.items()),
        rows=len(contents.rows),
    )


def _sorted(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(found))
