"""More tasks than domains: every domain is cut into pieces, which are domains of their own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from lpi.data.openmoji.catalogue import Concept, domain_names

import numpy as np

LEAST = 4  # concepts of a piece: a scene shows up to four different ones


def divided(concepts: list[Concept], tasks: int, groups: Mapping[str, str]) -> list[Concept]:
    """The catalogue with `tasks` domains, each a piece of one of the domains that it has.

    A piece has concepts that stand together in the catalogue. Its domain is named "tool 1", "tool 2", ..., and
    `Domain.whole` says what it is a piece of. Pieces come in turn: the first piece of every domain, then the second
    ones. With as many tasks as domains nothing changes.

    Args:
        concepts: the catalogue.
        tasks: the number of domains wanted.
        groups: domain -> its group; others are by themselves. Groups get equally many pieces, as far as possible.

    Raises:
        ValueError: fewer tasks than domains, or so many that a piece has fewer than `LEAST` concepts.
    """
    names = domain_names(concepts)
    if tasks == len(names):
        return concepts
    if tasks < len(names):
        raise ValueError(f"tasks must be at least {len(names)}, the number of domains, not {tasks}")
    pieces = pieces_of_domains(names, tasks, groups)
    cut = [piece for name in names for piece in _cut([c for c in concepts if c.domain.name == name], pieces[name])]
    if smallest := next((piece for _, piece in cut if len(piece) < LEAST), None):
        name, number = smallest[0].domain.name, len(smallest)
        raise ValueError(f"tasks is too large: with {tasks}, {name} has {number} concepts; {LEAST} are needed")
    return [concept for _, piece in sorted(cut, key=lambda entry: entry[0]) for concept in piece]


def pieces_of_domains(names: list[str], tasks: int, groups: Mapping[str, str]) -> Counter[str]:
    """Into how many pieces each domain is cut: the next one goes where there are fewest, of the domain or its group."""
    pieces: Counter[str] = Counter()
    of_groups: Counter[str] = Counter()
    for _ in range(tasks):
        chosen = min(names, key=lambda name: (pieces[name], of_groups[groups.get(name, name)]))
        pieces[chosen] += 1
        of_groups[groups.get(chosen, chosen)] += 1
    return pieces


def _cut(concepts: list[Concept], pieces: int) -> Iterator[tuple[int, list[Concept]]]:
    """The pieces of a domain with their numbers, from 1."""
    bounds = np.linspace(0, len(concepts), pieces + 1).round().astype(int).tolist()
    whole = concepts[0].domain
    for number, (first, last) in enumerate(pairwise(bounds), start=1):
        domain = replace(whole, name=f"{whole.name} {number}", whole=whole.name)
        yield number, [replace(concept, domain=domain) for concept in concepts[first:last]]
