"""What the pages show is what the repository's own files and commands say."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from lpi.metrics import DIRECTIONS
from lpi.parameters import OF_DETECTORS, OF_RETRIEVAL

import committed
import documents
import numpy as np
import pytest
import tables
import targets
import yaml
from conftest import ROOT
from grounding_streams import GROUNDING
from pipelines import Pipeline
from repository import declared
from results import Rows, write_rows
from streams import STREAMS
from tables import Place

README = documents.read("README.md")


@pytest.mark.parametrize("name", [str(path) for path in tables.FILES])
def test_the_tables_are_those_of_the_csv(name, in_the_repository):
    """`python benchmarks/tables.py` would change nothing, with the committed parameters."""
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
    summary = json.loads(committed.text("metrics/summary.json"))
    for direction in DIRECTIONS:
        average, gain = (summary[direction][name]["r1"] for name in ("average_recall", "relative"))
        line = next(line for line in README.splitlines() if line.startswith(f"{direction}: average R@1"))
        assert f" {average:.2f} [" in line and f"({gain:+.2f} [" in line
    first = summary[DIRECTIONS[0]]
    assert f"For {first['average_recall']['r1']:.2f} % of" in README
    assert re.search(rf"reaches {first['relative']['r1']:.2f} points\s+less", README)


@pytest.mark.parametrize("page", ["README.md", "docs/grounding.md"])
def test_pages_show_the_numbers_of_the_committed_run_of_grounding(page):
    summary = json.loads(committed.text("grounding/metrics/summary.json"))["boxes"]
    average, gain = (summary[name]["r1"] for name in ("average_recall", "relative"))
    line = next(line for line in documents.read(page).splitlines() if line.startswith("boxes: average R@1"))
    assert f" {average:.2f} [" in line and f"({gain:+.2f} [" in line


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


def test_the_picture_of_the_pipeline_is_current(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(committed.text("params.yaml"))
    command = [sys.executable, "-m", "dvc", "dag", "--md", "--collapse-foreach-matrix"]
    picture = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert picture.strip().startswith("```mermaid")
    assert picture.strip() in ARCHITECTURE


def test_every_path_of_the_architecture_exists():
    paths = re.findall(r"`((?:src|stages|tests|benchmarks|tools|launch|data|docs|metrics)/[\w./-]*)`", ARCHITECTURE)
    generated = tuple(line.strip("/") for line in (ROOT / "data" / ".gitignore").read_text().splitlines())
    made = {f"data/{name}" for name in generated}
    missing = [path for path in paths if not (ROOT / path).exists() and top(path) not in made]
    assert [path for path in missing if not path.startswith("metrics/") and "NAME" not in path] == []


def test_every_method_has_its_row():
    for title, methods in (("The twelve methods", OF_RETRIEVAL), ("Five more for grounding", OF_DETECTORS)):
        table = documents.read("docs/methods.md").partition(f"## {title}")[2].partition("\n## ")[0]
        assert sorted(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == sorted(methods)


def test_the_variables_of_the_environment_are_those_that_the_code_reads():
    table = documents.read("docs/parameters.md").partition("## Environment variables")[2]
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert set(re.findall(r"^\| `(LPI_\w+)` \|", table, re.MULTILINE)) == set(re.findall(r'"(LPI_\w+)"', source))


SHOWN = tables.OF_RETRIEVAL, tables.OF_GROUNDING


def rows_of(method: str, gains: list[float], **columns: str) -> Rows:
    """A row for each seed; forgetting is twice the gain, every other measure the gain itself."""
    names = [name for shown in SHOWN for _, name, _ in (*shown.whole, *shown.accuracy)]
    return [
        {
            "method": method,
            "seed": str(seed),
            **dict.fromkeys(names, str(gain)),
            "forgetting": str(2 * gain),
            "parameters_per_task": "2776",
            **columns,
        }
        for seed, gain in enumerate(gains)
    ]


def lines_of(name: str, found: tables.Groups) -> list[list[str]]:
    """The cells of a table, line by line, without what separates the header."""
    header, _, *lines = tables.render(name, found).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines)]


METHODS_FOUND = {
    Place("aspects", "lpi", "own"): rows_of("lpi", [5.0, 6.0, 7.0]),
    Place("aspects", "lpi", "published"): rows_of("lpi", [4.0, 4.0, 4.0]),
    Place("aspects", "lpi", "oracle"): rows_of("lpi", [8.0, 9.0, 10.0]),
    Place("aspects", "frozen", "own"): rows_of("frozen", [0.0], parameters_per_task="0"),
    Place("aspects", "maple", "own"): rows_of("maple", [3.0, 5.0, 4.0]),
    Place("aspects", "maple", "published"): rows_of("maple", [2.0]),
    Place("mixed", "lpi", "own"): rows_of("lpi", [1.0, 3.0]),
    Place("mixed", "shared", "own"): rows_of("shared", [1.0, 3.0]),
}


def test_methods_in_short_have_both_streams_in_a_line():
    dcp = {Place("aspects", "dcp", "own"): rows_of("dcp", [3.0, 5.0, 4.0])}
    header, *lines = lines_of("methods in short", {"methods": METHODS_FOUND | dcp})
    assert header == ["method", "R@1", "gain over frozen", "forgetting", "gain on the control", "parameters per task"]
    assert lines == [
        ["lpi", "6.0 ± 1.0", "6.0 ± 1.0", "12.0 ± 2.0", "2.0 ± 1.4", "2,776"],
        ["frozen", "0.0", "0.0", "0.0", "-", "0"],
        ["dcp", "4.0 ± 1.0", "4.0 ± 1.0", "8.0 ± 2.0", "-", "2,776"],
    ]


def test_methods_of_grounding_in_short_have_the_true_tasks_in_a_line():
    header, *lines = lines_of("grounding methods in short", {"grounding methods": METHODS_FOUND})
    assert header[4:] == ["gain with true tasks", "parameters per task"]
    assert lines[0] == ["lpi", "6.0 ± 1.0", "6.0 ± 1.0", "12.0 ± 2.0", "9.0 ± 1.0", "2,776"]


def test_a_stream_has_every_method_under_every_routing():
    header, *lines = lines_of("methods, aspects", {"methods": METHODS_FOUND})
    assert header == ["method", "routing", "seeds", *(title for title, _, _ in tables.OF_RETRIEVAL.whole)]
    assert [line[:4] for line in lines] == [
        ["lpi", "by pairs", "3", "6.0 ± 1.0"],
        ["lpi", "as published", "3", "4.0 ± 0.0"],
        ["lpi", "true tasks", "3", "9.0 ± 1.0"],
        ["frozen", "-", "1", "0.0"],
        ["maple", "by pairs", "3", "4.0 ± 1.0"],
        ["maple", "as published", "1", "2.0"],
    ]
    assert [line[0] for line in lines_of("methods, mixed", {"methods": METHODS_FOUND})[1:]] == ["lpi", "shared"]


def test_runs_are_compared_seed_by_seed():
    """Differences 2, 1, 3: t = 2 / (1 / sqrt 3) with two degrees of freedom, of which the quantile 0.975 is 4.3027."""
    ours, theirs = rows_of("lpi", [5.0, 6.0, 7.0]), rows_of("maple", [3.0, 5.0, 4.0])
    t = 2 * 3**0.5
    found = tables.paired("gain", ours, theirs[::-1])
    assert found.mean == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)
    assert found.p == pytest.approx(1 - t / (2 + t**2) ** 0.5)  # the distribution function for two degrees of freedom
    assert tables.paired("forgetting", ours, theirs).mean == pytest.approx(4.0)


def test_only_common_seeds_are_compared_and_frozen_with_all():
    ours = rows_of("lpi", [5.0, 6.0, 7.0])
    fewer = tables.paired("gain", ours, rows_of("maple", [1.0, 1.0, 3.0])[1:])
    assert fewer.mean == pytest.approx(4.5)
    assert tables.paired("gain", ours, rows_of("frozen", [1.0])).mean == pytest.approx(5.0)
    assert tables.paired("gain", ours, rows_of("maple", [1.0])) is None
    assert tables.paired("gain", ours[:1], rows_of("frozen", [1.0])) is None
    assert tables.paired("gain", ours, rows_of("lpi", [5.0, 6.0, 7.0])) is None  # the same runs


def test_equal_differences_have_no_spread_to_test():
    ours = rows_of("lpi", [5.1, 6.2, 7.3])
    assert tables.paired("gain", ours, rows_of("maple", [3.1, 4.2, 5.3])) is None
    assert tables.paired("gain", ours, rows_of("maple", [5.1, 6.2, 7.3])) == (0.0, 0.0, 0.0, 1.0)


def naive_holm(p_values: list[float]) -> list[float]:
    """For each, the highest of the products up to its place in the order of p, at most 1."""
    ordered = sorted(p_values)
    count = len(ordered)
    return [
        min(1.0, max((count - place) * q for place, q in enumerate(ordered) if q <= p and ordered.index(q) <= place))
        for p in p_values
    ]


def test_p_values_are_corrected_by_holm():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.04 x 1, which are not below those before."""
    assert tables.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert tables.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert tables.holm([]) == [] and tables.holm([0.2]) == [0.2]
    drawn = np.random.default_rng(0).uniform(0, 0.2, 30).tolist()
    assert tables.holm(drawn) == pytest.approx(naive_holm(drawn))


def test_lpi_is_compared_with_every_line_but_those_with_true_tasks():
    """Beside maple the differences are 2, 1, 3 (p = 0.0742), beside frozen 5, 6, 7 (t = 6 sqrt 3), beside published
    1, 2, 3 (the p of maple): in Holm's order 0.0092 x 3, 0.0742 x 2, 0.0742."""
    header, *lines = lines_of("comparison, aspects", {"methods": METHODS_FOUND})
    assert header == ["lpi minus", "routing", "gain (points)", "p", "forgetting (points)", "p"]
    assert lines == [
        ["lpi", "as published", "+2.0 [-0.5, +4.5]", "0.148", "+4.0 [-1.0, +9.0]", "0.148"],
        ["frozen", "-", "+6.0 [+3.5, +8.5]", "0.027", "+12.0 [+7.0, +17.0]", "0.027"],
        ["maple", "by pairs", "+2.0 [-0.5, +4.5]", "0.148", "+4.0 [-1.0, +9.0]", "0.148"],
        ["maple", "as published", "-", "-", "-", "-"],
    ]
    (other,) = lines_of("comparison, mixed", {"methods": METHODS_FOUND})[1:]
    assert other == ["shared", "-", "+0.0 [+0.0, +0.0]", "1.000", "+0.0 [+0.0, +0.0]", "1.000"]


def test_small_p_values_are_not_shown_as_zero():
    assert [tables.shown_p(p) for p in (0.25, 0.001, 0.0009, 0.0)] == ["0.250", "0.001", "< 0.001", "< 0.001"]


def test_components_are_compared_with_the_whole_method():
    whole = rows_of("lpi", [5.0, 6.0, 7.0])
    group = {
        Place("aspects", "rank 1", "own"): rows_of("lpi", [3.0, 5.0, 4.0], parameters_per_task="694"),
        Place("aspects", "as it is", "own"): whole,
        Place("aspects", "rank 4", "own"): whole,  # the setting of the whole method
        Place("aspects", "one seed", "own"): rows_of("lpi", [5.5]),
    }
    header, *lines = lines_of("components", {"components": group})
    assert header[:4] == ["variant", "gain over frozen", "forgetting", "parameters per task"]
    own = ["6.0 ± 1.0", "12.0 ± 2.0", "2,776", "-", "-", "-", "-"]
    assert lines == [
        ["as it is", *own],
        ["rank 1", "4.0 ± 1.0", "8.0 ± 2.0", "694", "+2.0 [-0.5, +4.5]", "0.074", "+4.0 [-1.0, +9.0]", "0.074"],
        ["rank 4", *own],
        ["one seed", "5.5", "11.0", "2,776", "-", "-", "-", "-"],
    ]


def test_routings_have_the_gains_of_all_methods_and_how_often_they_are_right():
    group = {
        Place("aspects", "lpi", "1 mean"): rows_of("lpi", [5.0, 7.0], **{"routing_accuracy.text": "91"}),
        Place("aspects", "sprompts", "1 mean"): rows_of("sprompts", [1.0]),
        Place("aspects", "sprompts", "true tasks"): rows_of("sprompts", [2.0]),
    }
    header, *lines = lines_of("routing", {"routing": group})
    gains = [f"{method}: {title}" for method in ("lpi", "sprompts") for title in ("gain over frozen", "forgetting")]
    assert header == ["routing", *gains, "images routed right", "captions routed right"]
    assert lines == [
        ["1 mean", "6.0 ± 1.4", "12.0 ± 2.8", "1.0", "2.0", "6.0 ± 1.4", "91.0 ± 0.0"],
        ["true tasks", "-", "-", "2.0", "4.0", "2.0", "2.0"],
    ]


def test_variants_stand_in_rows_and_methods_with_their_routings_in_columns():
    group = {
        Place("aspects", "lpi, 5", "own"): rows_of("lpi", [5.0, 7.0]),
        Place("aspects", "lpi, 5", "published"): rows_of("lpi", [4.0]),
        Place("aspects", "shared, 5", "own"): rows_of("shared", [1.0]),
        Place("aspects", "shared, 800", "own"): rows_of("shared", [2.0]),
    }
    header, *lines = lines_of("training scenes", {"training scenes": group})
    lead = "gain: lpi minus sprompts, by pairs"
    assert header == ["scenes per task", "lpi, by pairs", "lpi, as published", "shared", lead]
    assert lines == [
        ["5", "6.0 ± 1.4 / 12.0 ± 2.8", "4.0 / 8.0", "1.0 / 2.0", "-"],
        ["800", "-", "-", "2.0 / 4.0", "-"],
    ]
    assert tables.lead(rows_of("lpi", [6.0, 7.0, 8.0]), rows_of("sprompts", [4.0, 6.0, 5.0])) == "+2.0 [-0.5, +4.5]"
    assert lines_of("variants of the stream", {"variants of the stream": group})[0][0] == "stream"


def test_methods_of_grounding_have_boxes_and_one_stream():
    found = {f"grounding {name}": METHODS_FOUND for name in ("methods", "components")}
    header, *lines = lines_of("grounding methods", found)
    measures = ["R@1", "gain over frozen", "forgetting", "R@5", "R@10", "mean IoU", "upper bound", "last R@1"]
    assert header == ["method", "routing", "seeds", *measures, "parameters per task"]
    assert [line[:4] + line[-1:] for line in lines[:2]] == [
        ["lpi", tables.OF_GROUNDING.own, "3", "6.0 ± 1.0", "2,776"],
        ["lpi", "as published", "3", "4.0 ± 0.0", "2,776"],
    ]
    compared = tables.render("comparison, aspects", {"methods": METHODS_FOUND})
    assert tables.render("grounding comparison", found) == compared.replace("by pairs", tables.OF_GROUNDING.own)


def test_routings_of_grounding_are_right_by_image_text_and_both():
    group = {Place("aspects", "lpi", "1 mean"): rows_of("lpi", [5.0], **{"routing_accuracy.both": "93"})}
    header, line = lines_of("grounding routing", {"grounding routing": group})
    assert header[-3:] == ["routed right by image", "routed right by text", "routed right by both"]
    assert line[-3:] == ["5.0", "5.0", "93.0"]


def test_pictures_of_grounding_are_crossed_with_methods():
    group = {
        Place("aspects", "lpi, 5", "own"): rows_of("lpi", [5.0]),
        Place("aspects", "lpi, 5", "oracle"): rows_of("lpi", [6.0]),
    }
    own = tables.OF_GROUNDING.own
    for name, first in (("pictures", "pictures per task"), ("variants", "stream")):
        found = {"grounding pictures": group, "grounding variants of the stream": group}
        header, line = lines_of(f"grounding {name}", found)
        assert header == [first, f"lpi, {own}", "lpi, true tasks", f"gain: lpi minus sprompts, {own}"]
        assert line == ["5", "5.0 / 10.0", "6.0 / 12.0", "-"]


TRIALS = [
    ("lpi", {"lr": 0.1}, 2.0, 4.0),
    ("lpi", {"lr": 1e-05}, 5.0, 0.5),
    ("lpi", {"lr": 0.1, "rank": 2}, 9.0, None),
    ("l2p", {"lr": 0.1}, 1.0, 0.0),
    ("l2p", {"lr": 1e-05}, 1.0, 1.0),
    ("l2p", {"lr": 1e-05, "prompts.deep": "add"}, 1.2, 1.4),  # less than the margin above
    ("dcp", {"lr": 0.1}, None, 1.0),
]
SPACE = {"lr": [0.1, 1e-05], "own": {"lpi": {"rank": [2]}, "l2p": {"prompts.deep": ["add"]}, "dcp": {}}}


@pytest.fixture
def searched(monkeypatch, tmp_path):
    """A search that is not complete."""
    monkeypatch.setattr(Pipeline, "table", lambda pipeline, name: tmp_path / f"{pipeline.prefix}{name}.csv")
    monkeypatch.setattr(Pipeline, "declaration", lambda *_: SPACE)
    rows = [
        {"method": method, "settings": json.dumps(settings), "stream": stream, "routing": routing, "gain": gain}
        for method, settings, *gains in TRIALS
        for stream, gain in zip(STREAMS, gains, strict=True)
        for routing in ("own", "oracle")
        if gain is not None
    ]
    for row in rows:
        row["gain"] += 50 * (row["routing"] == "oracle")  # does not count
    write_rows(tmp_path / "search.csv", rows)
    write_rows(tmp_path / "grounding_search.csv", [row for row in rows if row["stream"] == "aspects"])


def test_the_best_trial_of_both_streams_is_in_bold(searched):
    header, *lines = lines_of("search", {})
    assert header == ["method", "settings", "aspects", "mixed", "mean"]
    assert lines == [
        ["lpi", "`lr=0.1`", "2.0", "4.0", "**3.0**"],
        ["lpi", "`lr=1e-05`", "5.0", "0.5", "2.8"],
        ["lpi", "`lr=0.1`, `rank=2`", "9.0", "-", "-"],
        ["l2p", "`lr=0.1`", "1.0", "0.0", "0.5"],
        ["l2p", "`lr=1e-05`", "1.0", "1.0", "**1.0**"],
        ["l2p", "`lr=1e-05`, `prompts.deep=add`", "1.2", "1.4", "1.3"],
        ["dcp", "`lr=0.1`", "-", "1.0", "-"],
    ]


def test_chosen_settings_stand_beside_the_best_of_each_stream(searched):
    header, *lines = lines_of("settings", {})
    assert header == ["method", "trials", "settings", "gain, aspects (best there)", "gain, mixed (best there)"]
    assert lines == [
        ["lpi", "3", "`lr=0.1`", "2.0 (9.0)", "4.0 (4.0)"],
        ["l2p", "3", "`lr=1e-05`", "1.0 (1.2)", "1.0 (1.4)"],
    ]


def test_the_search_of_grounding_has_its_own_stream_alone(searched):
    header, *lines = lines_of("grounding search", {})
    assert header == ["method", "settings", "aspects", "mean"]
    assert lines[:3] == [
        ["lpi", "`lr=0.1`", "2.0", "2.0"],
        ["lpi", "`lr=1e-05`", "5.0", "**5.0**"],
        ["lpi", "`lr=0.1`, `rank=2`", "9.0", "9.0"],
    ]
    assert lines_of("grounding settings", {})[0][3:] == ["gain, aspects (best there)"]


def test_missing_results_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(Pipeline, "table", lambda pipeline, name: tmp_path / f"{pipeline.prefix}{name}.csv")
    for name in (*tables.OF_STUDY, *tables.OF_SEARCH, "no file"):
        assert tables.render(name, {}) == f"No results of {name} yet."
    part = {Place("aspects", "frozen", "own"): rows_of("frozen", [0.0])}
    for prefix in ("", "grounding "):
        found = {f"{prefix}methods": part, f"{prefix}components": part}
        comparison = f"{prefix}comparison" if prefix else "comparison, aspects"
        for name, missing in ((comparison, "lpi on the stream aspects"), (f"{prefix}components", "the whole method")):
            assert tables.render(name, found) == f"No results of {missing} yet."
    assert tables.groups() == {}


@pytest.fixture
def kept(monkeypatch):
    """Some rows that both studies have, whatever is found in them."""
    monkeypatch.setattr(tables, "read_rows", lambda path: [{"values": "{}"}])


def test_rows_of_the_results_get_the_places_of_the_study(monkeypatch, kept):
    """A row that several places share stands in all of them."""
    order = [place_of_study(*names) for names in ("am", "am", "bn", "bo")]
    rows = [{"seed": "0"}, {"seed": "1"}]
    monkeypatch.setattr(tables, "ALL_SHOWN", SHOWN)
    monkeypatch.setattr(tables.study, "load_runs", lambda pipeline: order if pipeline is GROUNDING else order[:3])
    monkeypatch.setattr(tables.study, "found_rows", lambda runs, _: [*rows, rows[0], None][: len(runs)])
    m, n = (Place("aspects", label, "own") for label in "mn")
    groups = {"a": {m: rows}, "b": {n: rows[:1]}}
    assert tables.groups() == {**groups, **{f"grounding {name}": group for name, group in groups.items()}}


def place_of_study(group: str, label: str, method: str = "lpi", routing: str = "own") -> SimpleNamespace:
    return SimpleNamespace(
        group=group, stream="aspects", label=label, routing=routing, parameters={"method": method, "seed": 0}
    )


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.pipeline.name)
def test_a_method_that_is_routed_as_published_stands_once_and_says_so(monkeypatch, kept, shown):
    places = [
        place_of_study("methods", method, method, routing)
        for method in ("lpi", "lpi-released")
        for routing in ("own", "published")
    ]
    rows = [{"method": place.label, "seed": "0"} for place in places]
    monkeypatch.setattr(tables.study, "load_runs", lambda pipeline: places)
    monkeypatch.setattr(tables.study, "found_rows", lambda *_: rows)
    group = shown.group("methods", tables.groups())
    named = [(place.label, tables.routed(shown, place, own)) for place, own in group.items()]
    assert named == [("lpi", shown.own), ("lpi", "as published"), ("lpi-released", "as published")]


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
    (tmp_path / "speed.csv").write_text("kind,rate\na,3\na,4\nb,\nc,1670.4\n")
    rate = targets.column("rate")
    reached = targets.Target("what", 3, "speed", rate, least=True, where={"kind": "a"})
    assert reached.cells() == ["what", "3 or more", "3", "yes", "`speed`"]  # the worst row
    missed = targets.Target("what", 3.5, "speed", rate, where={"kind": "a"})
    assert missed.cells() == ["what", "3.5 or less", "4", "**no**", "`speed`"]
    large = targets.Target("what", 4000, "speed", rate, least=True, where={"kind": "c"})
    assert large.cells()[1:4] == ["4,000 or more", "1,670", "**no**"]
    none = targets.Target("what", 1, "other", rate)
    assert none.cells() == ["what", "1 or less", "not measured", "", "`other`"]


def test_the_workflow_for_pull_requests_uses_what_there_is():
    (workflow,) = (
        block.content
        for block in documents.blocks(documents.read("docs/team.md"))
        if block.kind == "yaml" and "cml" in block.content
    )
    (job,) = yaml.safe_load(workflow)["jobs"].values()
    script = "\n".join(step.get("run", "") for step in job["steps"])
    written = [*declared(STAGES["summarize"], "outs"), *declared(STAGES["summarize"], "plots")]
    for path in (*re.findall(r"metrics/[\w.]+", script), job["steps"][-1]["with"]["path"]):
        assert path in written, path
    assert "make repro" in script and "dvc metrics diff --md" in script
