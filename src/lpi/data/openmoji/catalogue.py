"""The catalogue: which emoji exist, what a person calls them and which domain they belong to."""

import csv
from dataclasses import dataclass
from pathlib import Path

CATALOGUE_FIELDS = ["emoji", "name", "plural", "domain"]
DOMAIN_FIELDS = ["domain", "singular", "plural", "topic"]
ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Domain:
    """A group of concepts, the task unit of the stream: "animal" -> "an animal", "animals", "wildlife".

    whole: the domain that this one is a piece of, or "" (see `division`).
    """

    name: str
    singular: str
    plural: str
    topic: str
    whole: str = ""


@dataclass(frozen=True)
class Concept:
    """One emoji: `name` is a noun phrase ("a dog"), `plural` its plural without a number ("dogs")."""

    index: int
    emoji: str
    name: str
    plural: str
    domain: Domain

    @property
    def noun(self) -> str:
        """The name without its article: "dog", "glasses"."""
        for article in ARTICLES:
            if self.name.startswith(article):
                return self.name.removeprefix(article)
        return self.name

    @property
    def is_plural(self) -> bool:
        """Whether the name itself is plural, "glasses", so that several are "pairs of glasses"."""
        return self.name == self.noun and " of " in self.plural


def _read_rows(path: Path, fields: list[str]) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != fields:
            raise ValueError(f"{path}, line 1: the columns must be {','.join(fields)}, not {reader.fieldnames}")
        rows = []
        for row in reader:
            if None in row or not all(row.values()):
                raise ValueError(f"{path}, line {reader.line_num}: every one of {','.join(fields)} needs a value")
            rows.append(row)
    return rows


def load_catalogue(catalogue_path: Path, domains_path: Path) -> list[Concept]:
    """Read `data/catalogue.csv` and `data/domains.csv`; concepts come in file order.

    Raises:
        ValueError: a missing column, an empty cell, a repeated emoji or name, an emoji of more
            than one code point, or a domain that `domains_path` does not list; names file and entry.
    """
    domains = {row["domain"]: Domain(*row.values()) for row in _read_rows(domains_path, DOMAIN_FIELDS)}
    concepts: list[Concept] = []
    seen: set[str] = set()
    for row in _read_rows(catalogue_path, CATALOGUE_FIELDS):
        if len(row["emoji"]) != 1:
            raise ValueError(f"{catalogue_path}: {row['name']!r} must be a single code point, not {row['emoji']!r}")
        if row["domain"] not in domains:
            raise ValueError(f"{catalogue_path}: {row['name']!r} has domain {row['domain']!r}, not in {domains_path}")
        for key in (row["emoji"], row["name"]):
            if key in seen:
                raise ValueError(f"{catalogue_path}: {key!r} appears twice")
            seen.add(key)
        concepts.append(Concept(len(concepts), row["emoji"], row["name"], row["plural"], domains[row["domain"]]))
    return concepts


def domain_names(concepts: list[Concept]) -> list[str]:
    """Domains in order of first appearance, which is the order of the tasks (rarest first)."""
    return list(dict.fromkeys(concept.domain.name for concept in concepts))
