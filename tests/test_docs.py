"""What the pages show is what the repository's own files and commands say."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from lpi.metrics import DIRECTIONS
from lpi.parameters import METHODS

import documents
import pytest
import tables
import targets
import yaml
from conftest import ROOT
from repository import declared

README = documents.read("README.md")


@pytest.mark.parametrize("name", [str(path) for path in tables.FILES])
def test_the_tables_are_those_of_the_csv(name, monkeypatch):
    """`python benchmarks/tables.py` would change nothing."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / name).read_text(encoding="utf-8")
    assert tables.MARKS.search(text)
    assert tables.updated(text, tables.groups()) == text


@pytest.mark.parametrize("page", documents.pages(), ids=str)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in documents.links(documents.read(page)):
        name, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = page.parent / name if name else page
        assert (ROOT / target).exists(), link
        if anchor:
            assert anchor in documents.anchors(documents.read(target)), link


@pytest.mark.parametrize("page", [page for page in documents.pages() if page.name != "CHANGELOG.md"], ids=str)
def test_no_heading_of_a_page_stands_twice(page):
    headings = documents.HEADING.findall(documents.prose(documents.read(page)))
    assert len(headings) == len(set(headings))


def test_links_anchors_and_commands_are_found_where_markdown_has_them():
    text = (
        "# A `b` page: c_d\n\n[x](one.md#two) ![y](three.png)\n\n```text\n[z](no.md)\n# no heading\n```\n\n"
        "## Same\n\n## Same\n\n- item\n    goes on\n\n    make repro  # comment\n    make \\\n        test\n\n"
        "```bash\nA=1 dvc repro\n```\n\nThen `make lint`, `make TARGET` and `git`.\n"
    )
    assert documents.links(text) == ["one.md#two", "three.png"]
    assert documents.anchors(text) == {"a-b-page-c_d", "same", "same-1"}
    assert documents.commands(text) == ["A=1 dvc repro", "make repro", "make test", "make lint"]


def test_the_readme_shows_the_numbers_of_the_committed_run():
    summary = json.loads((ROOT / "metrics" / "summary.json").read_text())
    for direction in DIRECTIONS:
        average, gain = (summary[direction][name]["r1"] for name in ("average_recall", "relative"))
        line = next(line for line in README.splitlines() if line.startswith(f"{direction}: average R@1"))
        assert f" {average:.2f} [" in line and f"({gain:+.2f} [" in line
    first = summary[DIRECTIONS[0]]
    assert f"For {first['average_recall']['r1']:.2f} % of" in README
    assert re.search(rf"reaches {first['relative']['r1']:.2f} points\s+less", README)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8192


@pytest.mark.parametrize("page", [page for page in documents.pages() if page.parent == Path("docs")], ids=str)
def test_a_page_begins_with_what_its_reader_will_be_able_to_do(page):
    first = documents.read(page).split("\n\n")[1]
    assert first.startswith("After this page "), first
    assert f"](docs/{page.name})" in README, "the README leads to it"


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ARCHITECTURE = documents.read("docs/architecture.md")


def top(path: str) -> str:
    """data/states/${key} -> data/states; files of metrics stay as they are."""
    return path if path.startswith("metrics/") else "/".join(path.split("/")[:2])


@pytest.mark.parametrize("stage", STAGES)
def test_the_architecture_says_what_a_stage_reads_and_writes(stage):
    row = re.search(rf"^\| `{stage}(?:@TASK)?` \| (.*?) \| (.*?) \| .* \|$", ARCHITECTURE, re.MULTILINE)
    assert row, stage
    body = STAGES[stage].get("do", STAGES[stage])
    written = {top(out) for key in ("outs", "metrics", "plots") for out in declared(body, key)}
    read = {top(dep) for dep in declared(body, "deps") if dep.startswith(("data/", "metrics/"))} - {
        "data/parameters.txt"
    }
    for cell, paths in ((row[1], read), (row[2], written)):
        assert {top(path) for path in re.findall(r"`([^`]+)`", cell) if "/" in path} == paths


def test_the_picture_of_the_pipeline_is_current():
    command = [sys.executable, "-m", "dvc", "dag", "--md", "--collapse-foreach-matrix"]
    picture = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert picture.strip().startswith("```mermaid")
    assert picture.strip() in ARCHITECTURE


def test_every_path_of_the_architecture_exists():
    paths = re.findall(r"`((?:src|stages|tests|benchmarks|tools|launch|data|docs|metrics)/[\w./-]*)`", ARCHITECTURE)
    generated = tuple(line.strip("/") for line in (ROOT / "data" / ".gitignore").read_text().splitlines())
    made = {f"data/{name}" for name in generated}
    missing = [path for path in paths if not (ROOT / path).exists() and top(path) not in made]
    assert [path for path in missing if not path.startswith("metrics/") and "NAME" not in path] == []


def test_every_method_has_its_row():
    table = documents.read("docs/methods.md").partition("## The twelve methods")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == sorted(METHODS)


def test_the_variables_of_the_environment_are_those_that_the_code_reads():
    table = documents.read("docs/parameters.md").partition("## Environment variables")[2]
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert set(re.findall(r"^\| `(LPI_\w+)` \|", table, re.MULTILINE)) == set(re.findall(r'"(LPI_\w+)"', source))


def rows_of(method: str, values: list[float]) -> list[dict[str, str]]:
    names = [name for _, name, _ in tables.RECALL]
    return [
        {"method": method, "seed": str(seed), "parameters_per_task": "2776", **dict.fromkeys(names, str(value))}
        for seed, value in enumerate(values)
    ]


def test_a_table_shows_mean_and_deviation():
    group = {"lpi": rows_of("lpi", [1.0, 2.0, 3.0]), "frozen": rows_of("frozen", [4.0])}
    lines = tables.render("methods", {"methods": group}).splitlines()
    assert lines[0].startswith("| method | seeds | average R@1 i2t |")
    assert lines[2] == "| lpi | 3 |" + " 2.0 ± 1.0 |" * 6 + " 2,776 |"
    assert lines[3] == "| frozen | 1 |" + " 4.0 |" * 6 + " 2,776 |"


def test_further_measures_and_variants_have_tables():
    rows = rows_of("lpi", [1.0, 3.0])
    for row in rows:
        row |= {name: "5" for _, name, _ in tables.OTHER}
    lines = tables.render("other measures", {"methods": {"lpi": rows}}).splitlines()
    assert lines[0].startswith("| method | seeds | to frozen i2t | to frozen t2i | R@10 i2t |")
    assert lines[2] == "| lpi | 2 |" + " 5.0 ± 0.0 |" * 10
    for row in rows:
        row |= dict.fromkeys((name for _, name, _ in tables.SHORT), "7")
    lines = tables.render("methods in short", {"methods": {"lpi": rows}}).splitlines()
    assert lines[0] == "| method | seeds | average R@1 | gain over frozen | forgetting | parameters per task |"
    assert lines[2] == "| lpi | 2 |" + " 7.0 ± 0.0 |" * 3 + " 7 |"
    variants = {"as it is": rows_of("lpi", [1.0, 3.0]), "none": rows_of("lpi", [0.0, 1.0])}
    lines = tables.render("comparison of variants", {"variants": variants}).splitlines()
    assert lines[2].startswith("| none | +1.5 ± 0.7 | 0.205 |")


def test_methods_are_compared_seed_by_seed():
    """Differences 2, 1, 3: t = 2 / (1 / sqrt 3), two degrees of freedom."""
    group = {"lpi": rows_of("lpi", [5.0, 6.0, 7.0]), "a": rows_of("a", [3.0, 5.0, 4.0])}
    group |= {"one seed": rows_of("b", [4.0]), "frozen": rows_of("frozen", [4.0])}
    difference, deviation, p = tables.paired("mean.average_recall.r1", group["lpi"], group["a"][::-1])
    t = 2 * 3**0.5
    assert (difference, deviation) == pytest.approx((2.0, 1.0))
    assert p == pytest.approx(1 - t / (2 + t**2) ** 0.5)  # the distribution function for two degrees of freedom
    assert tables.paired("mean.average_recall.r1", group["lpi"], group["frozen"])[0] == pytest.approx(2.0)
    assert tables.paired("mean.average_recall.r1", group["lpi"], group["one seed"]) is None
    lines = tables.comparison_table(group, "lpi").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a", "| frozen"]
    assert "| +2.0 ± 1.0 | 0.074 |" in lines[2]
    del group["lpi"]  # not run yet
    assert tables.render("comparison", {"methods": group}) == "No results of comparison yet."


def test_the_best_trial_is_in_bold_and_missing_results_are_named(monkeypatch, tmp_path):
    trials = (("lpi", 0.1, 0, "2.0"), ("l2p", 0.1, 0, "1.0"), ("lpi", 0.2, 0, "3.0"), ("lpi", 0.1, 1, "3.0"))
    rows = [
        {"method": method, "settings": f'{{"lr": {rate}}}', "seed": str(seed), "mean": mean, "forgetting": "1.0"}
        for method, rate, seed, mean in trials
    ]
    monkeypatch.setattr(tables, "read_rows", lambda path: rows)
    lines = tables.search_table().splitlines()[2:]
    assert lines[0] == "| lpi | `lr=0.1` | 2 | **2.5 ± 0.7** | 1.0 ± 0.0 |"  # it ran with more seeds
    assert lines[1] == "| lpi | `lr=0.2` | 1 | 3.0 | 1.0 |"
    assert lines[2] == "| l2p | `lr=0.1` | 1 | **1.0** | 1.0 |"
    empty = partial(tables.plain_table, tmp_path / "none.csv")
    monkeypatch.setattr(tables, "FROM_FILES", {"routes": (tmp_path / "none.csv", empty)})
    for name in ("rank", "comparison", "routes"):
        assert tables.render(name, {}) == f"No results of {name} yet."


def test_marked_tables_are_replaced_and_the_rest_kept(monkeypatch):
    monkeypatch.setattr(tables, "render", lambda name, found: f"table of {name}")
    text = "a\n<!-- table: rank -->\nold\n<!-- end of table -->\nb\n<!-- table: x y -->\n<!-- end of table -->\n"
    once = tables.updated(text, {})
    assert once.count("table of rank") == once.count("table of x y") == 1
    assert "old" not in once
    assert once.startswith("a\n") and "\nb\n" in once
    assert tables.updated(once, {}) == once


def test_a_target_is_compared_with_the_rows_that_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "RESULTS", tmp_path)
    (tmp_path / "speed.csv").write_text("kind,rate\na,3\na,4\nb,\n")
    rate = targets.column("rate")
    reached = targets.Target("what", 3, "speed", rate, least=True, where={"kind": "a"})
    assert reached.cells() == ["what", "3 or more", "3", "yes", "`speed`"]  # the worst row
    missed = targets.Target("what", 3.5, "speed", rate, where={"kind": "a"})
    assert missed.cells() == ["what", "3.5 or less", "4", "**no**", "`speed`"]
    none = targets.Target("what", 1, "other", rate)
    assert none.cells() == ["what", "1 or less", "not measured", "", "`other`"]
