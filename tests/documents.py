"""The Markdown pages of the repository: their headings, links, code blocks and commands."""

import re
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4,}\S.*\n)+")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:make|dvc|lpi|python3?|pip|pre-commit) \S.*")
PLACEHOLDER = re.compile(r"\b[A-Z]{4,}\b(?!=)")  # such as NAME: the form of a command, not a command
SHELL = "bash"  # the kind of a block of commands


@dataclass(frozen=True)
class Block:
    """A code block: its kind, such as csv, empty where it says none, and its content."""

    kind: str
    content: str


def pages() -> list[Path]:
    """All pages, but not those of hidden folders such as .venv."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.parts))


def is_kept(page: Path) -> bool:
    """Whether a page of docs/results tells of an earlier study and is kept as it was."""
    return page.parts[:2] == ("docs", "results")


def read(page: str | Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Fenced and indented code blocks; the indented ones have no kind."""
    fenced = [Block(kind, content) for _, kind, content in FENCED.findall(text)]
    return fenced + [Block("", content) for content in INDENTED.findall(FENCED.sub("", text))]


def prose(text: str) -> str:
    """The text without its code blocks."""
    return INDENTED.sub("", FENCED.sub("", text))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """All anchors of a page; repeated headings are numbered."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(text)):
        name = slug(heading)
        number = next(n for n in range(len(found) + 1) if (f"{name}-{n}" if n else name) not in found)
        found.add(f"{name}-{number}" if number else name)
    return found


def links(text: str) -> list[str]:
    """Targets of all links and images."""
    return [markdown or html for markdown, html in LINK.findall(prose(text))]


def lines_of(script: str) -> list[str]:
    """The commands of a shell script, without comments; a command that goes on in the next line is one."""
    joined = re.sub(r"\s*\\\n\s*", " ", script)
    commands = (re.sub(r"(^|\s)#\s.*", "", line).strip() for line in joined.splitlines())
    return [command for command in commands if command]


def commands(text: str) -> list[str]:
    """All commands of a page, in its blocks of code and within its prose, the same one once."""
    scripts = [block.content for block in blocks(text) if block.kind in (SHELL, "")]
    within = [code for code in INLINE.findall(prose(text)) if COMMAND.fullmatch(code) and not PLACEHOLDER.search(code)]
    return list(dict.fromkeys([command for script in scripts for command in lines_of(script)] + within))
