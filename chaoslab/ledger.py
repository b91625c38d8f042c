"""The check of the ledger: what voters were told against what each database holds. Pure functions over data.

As in Jepsen's test of a set: every acknowledged element must be there, and nothing that nobody added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chaoslab import tokens

OK, FAIL, INFO = "ok", "fail", "info"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A vote as its voter knows it; the outcome is ok, fail (surely not counted) or info (nobody knows)."""

    token: str
    choice: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger."""

    token: str
    choice: int


@dataclass(frozen=True, slots=True)
class Tally:
    """A choice's count as pages show it, and the part of it from before the ledger began."""

    votes: int
    opening: int


@dataclass(frozen=True)
class Contents:
    """What one database holds, read in one statement. tables: rows and checksum of every table, as text."""

    rows: tuple[Row, ...] = ()
    tallies: Mapping[int, Tally] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeCheck:
    """What is wrong with one database. Tokens are sorted.

    lost: acknowledged in this run and not there. lost_earlier: there before the run and not any more.
    unexpected: with this run's mark, and never sent or surely refused. altered: for another choice than was sent.
    doubled: in the ledger more than once. landed: outcome unknown to the voter, and there.
    foreign: new and without this run's mark, so cast by somebody else.
    tally_excess, tally_shortfall: votes by which tallies differ from opening count plus ledger, up and down.
    tally_doubled: the part of the excess that is not explained by rows that are missing.
    """

    lost: tuple[str, ...]
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
    differing_foreign: int
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
class Run:
    """What one run of the voter did.

    mark: marks its tokens. complete is False when the voter was killed: then it has sent votes that it could not write
    down, and rows with its mark that are not among the attempts are taken as landed, not as unexpected.
    """

    attempts: tuple[Attempt, ...]
    mark: str
    complete: bool = True


def check(run: Run, before: Contents | None, after: Mapping[str, Contents]) -> Check:
    """Check every node's contents after a run.

    `before` is what the primary held before the first vote; without it, earlier rows are neither missed nor told from
    new ones.
    """
    nodes = {name: _check_node(run, before, contents) for name, contents in after.items()}
    rows = [Counter(contents.rows) for contents in after.values()]
    foreign = {token for node in nodes.values() for token in node.foreign}
    anywhere = {row for found in rows for row in found}
    differing = {row.token for row in anywhere if len({found[row] for found in rows}) > 1}
    judged = differing - foreign
    openings = {
        tuple(sorted((key, value.opening) for key, value in contents.tallies.items())) for contents in after.values()
    }
    labels = (f"opening counts: {len(openings)} versions",) if len(openings) > 1 else ()
    everything = [contents.tables for contents in after.values()]
    names = {name for found in everything for name in found}
    tables = {name for name in names if len({found.get(name) for found in everything}) > 1}
    others_vote = bool(differing - judged)
    return Check(nodes, (*sorted(judged), *labels), len(differing - judged), () if others_vote else _sorted(tables))


def _check_node(run: Run, before: Contents | None, contents: Contents) -> NodeCheck:
    tried = {attempt.token: attempt for attempt in run.attempts}
    counts = Counter(row.token for row in contents.rows)
    stored = set(counts)
    earlier = {row.token for row in before.rows} if before else set()
    earlier -= tried.keys()
    marked = {token for token in stored if tokens.is_of(run.mark, token)}
    unsent = {token for token in marked if token not in tried}
    refused = {token for token, attempt in tried.items() if attempt.outcome == FAIL and token in stored}
    foreign = stored - marked - tried.keys() - earlier if before else set()
    unexpected = refused | (unsent if run.complete else set())
    landed = {token for token, attempt in tried.items() if attempt.outcome == INFO and token in stored}
    wanted = {row.token: row.choice for row in before.rows} if before else {}
    wanted |= {attempt.token: attempt.choice for attempt in tried.values()}
    cast = Counter(row.choice for row in contents.rows)
    choices = cast.keys() | contents.tallies.keys()
    nothing = Tally(0, 0)
    tallies = {choice: contents.tallies.get(choice, nothing) for choice in choices}
    lost = {token for token, attempt in tried.items() if attempt.outcome == OK and token not in stored}
    missing = Counter(wanted[token] for token in lost | (earlier - stored))
    excess = {choice: tally.votes - tally.opening - cast[choice] for choice, tally in tallies.items()}
    return NodeCheck(
        lost=_sorted(lost),
        lost_earlier=_sorted(earlier - stored),
        unexpected=_sorted(unexpected),
        altered=_sorted({row.token for row in contents.rows if wanted.get(row.token, row.choice) != row.choice}),
        doubled=_sorted(token for token, count in counts.items() if count > 1),
        landed=_sorted(landed | (set() if run.complete else unsent)),
        foreign=_sorted(foreign),
        tally_excess=sum(value for value in excess.values() if value > 0),
        tally_shortfall=-sum(value for value in excess.values() if value < 0),
        tally_doubled=sum(max(0, value - missing[choice]) for choice, value in excess.items()),
        rows=len(contents.rows),
    )


def _sorted(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(found))
