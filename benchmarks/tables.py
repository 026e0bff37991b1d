"""Write the tables into README.md and the pages of docs/ that have marks with their names.

    python benchmarks/tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`. NAME is one of `TABLES`, or a file of
docs/results without its `.csv`. Everything comes from there, from params.yaml and benchmarks/targets.py. A test fails
when a file and the tables differ.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lpi import parameters
from lpi.methods import method_class
from lpi.methods.common.base import Method
from lpi.parameters import GENERAL, OF_DETECTORS, PARAMS_FILE, Parameter, Parameters, leaves, load_parameters
from lpi.report.summary import FROZEN

import numpy as np
import search
import study
from drawn_streams import DRAWN, PARTS
from grounding_streams import GROUNDING
from options import no_options
from pipelines import OWN, Pipeline
from results import Rows, read_rows
from scipy import stats
from streams import RETRIEVAL
from targets import TARGETS

FILES = (
    Path("README.md"),
    Path("docs/parameters.md"),
    Path("docs/study.md"),
    Path("docs/performance.md"),
    Path("docs/protocol.md"),
    Path("docs/scaling.md"),
    Path("docs/stream.md"),
    Path("docs/grounding.md"),
    Path("docs/diffprompt.md"),
    Path("docs/use.md"),
)
RESULTS = Path("docs/results")
MISSING = "No results of {} yet."
MARKS = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
PUBLISHED = "published"
ROUTED = {PUBLISHED: "as published", "oracle": "true tasks"}
LEVEL = 0.95  # of the intervals of paired differences
WHOLE_METHOD = "as it is"  # among the components
SHORT = ("lpi", "lpi-released", "frozen", "sprompts", "dcp", "shared", "joint")  # in README.md


class Place(NamedTuple):
    """Where rows stand in the tables of their group."""

    stream: str
    label: str
    routing: str


Group = dict[Place, Rows]  # the rows of all seeds
Groups = dict[str, Group]  # by the prefix of the pipeline (`Shown`) and the group's name
Column = tuple[str, str, int]  # title, name in the CSV, decimals
MEASURES: list[Column] = [
    ("R@1", "r1", 1),
    ("gain over frozen", "gain", 1),
    ("forgetting", "forgetting", 1),
]
LAST: Column = ("last R@1", "last", 1)
PARAMETERS: Column = ("parameters per task", "parameters_per_task", 0)


@dataclass(frozen=True)
class Shown:
    """What the tables of a pipeline show.

    Attributes:
        pipeline: whose results they are.
        prefix: of the names of its tables and groups.
        own: what its own routing is called.
        whole: of a method.
        accuracy: of the routing.
    """

    pipeline: Pipeline
    prefix: str
    own: str
    whole: list[Column]
    accuracy: list[Column]

    def routing(self, name: str) -> str:
        """What a routing is called."""
        return self.own if name == OWN else ROUTED.get(name, name)

    def group(self, name: str, found: Groups) -> Group:
        """A group of this pipeline."""
        return found[f"{self.prefix}{name}"]


OF_RETRIEVAL = Shown(
    RETRIEVAL,
    "",
    "by pairs",
    [
        *MEASURES,
        ("R@1 i2t", "i2t.average_recall.r1", 1),
        ("R@1 t2i", "t2i.average_recall.r1", 1),
        ("R@10 i2t", "i2t.average_recall.r10", 1),
        ("R@10 t2i", "t2i.average_recall.r10", 1),
        LAST,
    ],
    [("images routed right", "routing_accuracy.image", 1), ("captions routed right", "routing_accuracy.text", 1)],
)
OF_GROUNDING = Shown(
    GROUNDING,
    "grounding ",
    f"by {GROUNDING.defaults()['routing.by']}",
    [
        *MEASURES,
        ("R@5", "r5", 1),
        ("R@10", "r10", 1),
        ("mean IoU", "mean_iou", 1),
        ("upper bound", "upper_bound", 1),
        LAST,
        PARAMETERS,
    ],
    [(f"routed right by {by}", f"routing_accuracy.{by}", 1) for by in ("image", "text", "both")],
)
BOXES = [*MEASURES[:2], *OF_GROUNDING.whole[3:7], PARAMETERS]  # of one task, where nothing can be forgotten
OF_DRAWN = replace(OF_GROUNDING, pipeline=DRAWN, prefix="diffprompt ")
OF_PARTS = replace(OF_DRAWN, pipeline=PARTS)
ALL_SHOWN = OF_RETRIEVAL, OF_GROUNDING, OF_DRAWN, OF_PARTS


def groups() -> Groups:
    """The rows that the results of all studies have, in their order."""
    return {name: group for shown in ALL_SHOWN for name, group in groups_of(shown).items()}


def groups_of(shown: Shown) -> Groups:
    """Those of one pipeline; a method stands once where its own routing is the published."""
    rows = read_rows(shown.pipeline.table(study.RESULTS))
    if not rows:
        return {}
    order = study.load_runs(shown.pipeline)
    found: Groups = {}
    for run, row in zip(order, study.found_rows(order, study.parsed(rows)), strict=True):
        doubled = run.routing == PUBLISHED and fixes_routing(method_class(run.parameters["method"]))
        if row is not None and not doubled:
            place = Place(run.stream, run.label, run.routing)
            found.setdefault(f"{shown.prefix}{run.group}", {}).setdefault(place, []).append(row)
    return found


def spread(values: list[float], decimals: int) -> str:
    """`mean ± standard deviation` (n - 1), the value alone for one run, a count with thousands separators."""
    if not decimals:
        return f"{values[0]:,.0f}"
    if len(values) == 1:
        return f"{values[0]:.{decimals}f}"
    return f"{np.mean(values):.{decimals}f} ± {np.std(values, ddof=1):.{decimals}f}"


def markdown(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def cells(rows: Rows, columns: list[Column]) -> list[str]:
    """What the rows of all seeds give, column by column; a dash where there are none."""
    if not rows:
        return ["-"] * len(columns)
    return [spread([float(row[column]) for row in rows], decimals) for _, column, decimals in columns]


def titles(columns: list[Column]) -> list[str]:
    return [title for title, _, _ in columns]


def routed(shown: Shown, place: Place, rows: Rows) -> str:
    """How the queries of a method find their prompts; a dash if all have the same."""
    method = method_class(rows[0]["method"])
    if not method.routed:
        return "-"
    return shown.routing(PUBLISHED if place.routing == OWN and fixes_routing(method) else place.routing)


def fixes_routing(method: type[Method]) -> bool:
    """Whether the method's own routing is the published one."""
    return "routing.metric" in method.fixed


def methods_in_short(shown: Shown, title: str, other: dict[str, str], found: Groups) -> str:
    """The methods of `SHORT`, in a line each.

    title, other: of a further column, the gain in another place, such as {"stream": "mixed"}.
    """
    group = shown.group("methods", found)
    lines = [
        [
            place.label,
            *cells(rows, MEASURES),
            *cells(group.get(place._replace(**other), []), MEASURES[1:2]),
            *cells(rows, [PARAMETERS]),
        ]
        for place, rows in group.items()
        if (place.stream, place.routing) == ("aspects", OWN) and place.label in SHORT
    ]
    return markdown(["method", *titles(MEASURES), title, PARAMETERS[0]], lines)


def whole_methods(shown: Shown, stream: str, found: Groups) -> str:
    """Every method under every routing on one stream."""
    lines = [
        [place.label, routed(shown, place, rows), str(len(rows)), *cells(rows, shown.whole)]
        for place, rows in shown.group("methods", found).items()
        if place.stream == stream
    ]
    return markdown(["method", "routing", "seeds", *titles(shown.whole)], lines)


class Difference(NamedTuple):
    """Of paired runs: mean, interval of the mean, and p value of the two-sided paired t test."""

    mean: float
    low: float
    high: float
    p: float


def paired(name: str, ours: Rows, theirs: Rows) -> Difference | None:
    """The difference of a measure, seed by seed.

    `frozen`, in which nothing is random, is compared with every seed. None: the same runs, or fewer than two common
    seeds, or differences that are equal but not 0, which have no interval. Those that are all 0 have the p value 1.
    """
    if ours == theirs:
        return None
    seeds = {row["seed"]: float(row[name]) for row in theirs}
    if theirs[0]["method"] == FROZEN:
        seeds = {row["seed"]: float(theirs[0][name]) for row in ours}
    pairs = [(float(row[name]), seeds[row["seed"]]) for row in ours if row["seed"] in seeds]
    if len(pairs) < 2:
        return None
    differences = np.round([a - b for a, b in pairs], 6)  # the numbers have two decimals
    mean = float(differences.mean())
    if not np.ptp(differences):
        return None if mean else Difference(0.0, 0.0, 0.0, 1.0)
    tested = stats.ttest_1samp(differences, 0)
    low, high = tested.confidence_interval(LEVEL)
    return Difference(mean, float(low), float(high), float(tested.pvalue))


def holm(p_values: list[float]) -> list[float]:
    """Corrected for their number by Holm's step-down method (1979)."""
    order, corrected, highest = np.argsort(p_values), list(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def shown_p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def comparison(ours: Rows, others: Mapping[Place, Rows], first: Callable[[Place], list[str]]) -> list[list[str]]:
    """For each of the others, by how much our rows are ahead in gain and in forgetting; p values are corrected."""
    lines: dict[Place, list[str]] = {place: first(place) for place in others}
    for name in ("gain", "forgetting"):
        measured = {place: paired(name, ours, rows) for place, rows in others.items()}
        known = {place: one for place, one in measured.items() if one is not None}
        corrected = dict(zip(known, holm([one.p for one in known.values()]), strict=True))
        for place, one in measured.items():
            lines[place] += ["-", "-"] if one is None else [interval(one), shown_p(corrected[place])]
    return list(lines.values())


def comparison_table(shown: Shown, stream: str, found: Groups, label: str = "lpi") -> str:
    """LPI, or another label, with its own routing against every other line of a stream."""
    group = {place: rows for place, rows in shown.group("methods", found).items() if place.stream == stream}
    ours = Place(stream, label, OWN)
    if ours not in group:
        return MISSING.format(f"{label} on the stream {stream}")
    others = {place: rows for place, rows in group.items() if place != ours and place.routing != "oracle"}

    def first(place: Place) -> list[str]:
        return [place.label, routed(shown, place, group[place])]

    header = [f"{label} minus", "routing", "gain (points)", "p", "forgetting (points)", "p"]
    return markdown(header, comparison(group[ours], others, first))


def components_table(shown: Shown, found: Groups) -> str:
    """What changes when one thing of the whole method is changed."""
    group = shown.group("components", found)
    whole = Place("aspects", WHOLE_METHOD, OWN)
    if whole not in group:
        return MISSING.format("the whole method")
    others = {place: rows for place, rows in group.items() if place != whole}
    columns = [*MEASURES[1:], PARAMETERS]

    def first(place: Place) -> list[str]:
        return [place.label, *cells(group[place], columns)]

    header = ["variant", *titles(columns), "whole minus variant: gain", "p", "forgetting", "p"]
    return markdown(header, [[*first(whole), "-", "-", "-", "-"], *comparison(group[whole], others, first)])


def routing_table(shown: Shown, found: Groups) -> str:
    """Gains under routings that share the trained states; how often the likeliest task is the true one."""
    group = shown.group("routing", found)
    names = dict.fromkeys(place.routing for place in group)
    methods = list(dict.fromkeys(place.label for place in group))
    lines = []
    for name in names:
        rows = [group.get(Place("aspects", method, name), []) for method in methods]
        accuracy = cells(next(own for own in rows if own), shown.accuracy)  # it does not depend on the method
        lines.append([name, *(cell for own in rows for cell in cells(own, MEASURES[1:])), *accuracy])
    header = [f"{method}: {title}" for method in methods for title in titles(MEASURES[1:])]
    return markdown(["routing", *header, *titles(shown.accuracy)], lines)


def crossed(shown: Shown, name: str, first: str, found: Groups) -> str:
    """A group with labels `METHOD, VARIANT`: variants in rows, methods under their routings in columns.

    Then by how much LPI's gain is above that of S-Prompts, with their own routings.
    """
    group = shown.group(name, found)
    labels = {place: place.label.split(", ", 1) for place in group}
    columns = list(dict.fromkeys((labels[place][0], place.routing) for place in group))
    lines = []
    for variant in dict.fromkeys(variant for _, variant in labels.values()):
        line = [variant]
        for method, routing in columns:
            rows = group.get(Place("aspects", f"{method}, {variant}", routing), [])
            line.append(" / ".join(cells(rows, MEASURES[1:])) if rows else "-")
        both = (group.get(Place("aspects", f"{method}, {variant}", OWN), []) for method in ("lpi", "sprompts"))
        lines.append([*line, lead(*both)])
    header = [
        f"{method}, {shown.routing(routing)}" if method_class(method).routed else method for method, routing in columns
    ]
    return markdown([first, *header, f"gain: lpi minus sprompts, {shown.own}"], lines)


def lead(ours: Rows, theirs: Rows) -> str:
    """The paired difference of gains with its interval; a dash where it cannot be had."""
    found = paired("gain", ours, theirs) if ours and theirs else None
    return interval(found) if found else "-"


def interval(of: Difference) -> str:
    return f"{of.mean:+.1f} [{of.low:+.1f}, {of.high:+.1f}]"


def plain_group(shown: Shown, name: str, found: Groups) -> str:
    """A line for each label."""
    group = shown.group(name, found)
    lines = [[place.label, str(len(rows)), *cells(rows, MEASURES)] for place, rows in group.items()]
    return markdown([name, "seeds", *titles(MEASURES)], lines)


def joint_table(stream: str, found: Groups) -> str:
    """Methods that are trained on all tasks at once, a line for each."""
    lines = [
        [place.label, str(len(rows)), *cells(rows, BOXES)]
        for place, rows in OF_DRAWN.group("joint", found).items()
        if place.stream == stream
    ]
    return markdown(["method", "seeds", *titles(BOXES)], lines)


def stream_table(found: Groups) -> str:
    """Methods that learn task by task, under every routing."""
    columns = [*MEASURES, PARAMETERS]
    lines = [
        [place.label, routed(OF_DRAWN, place, rows), str(len(rows)), *cells(rows, columns)]
        for place, rows in OF_DRAWN.group("stream", found).items()
    ]
    return markdown(["method", "routing", "seeds", *titles(columns)], lines)


def search_table(pipeline: Pipeline) -> str:
    """docs/results/search.csv: all settings by stream, the best in mean over the streams in bold."""
    rows, streams = read_rows(pipeline.table(search.NAME)), search.searched(pipeline)
    chosen, lines = search.best_settings(rows, pipeline.declaration(search.NAME), streams), []
    for name in dict.fromkeys(row["method"] for row in rows):
        tried = search.gains(rows, name)
        means = search.means(tried, streams)
        for text, gains in tried.items():
            settings = json.loads(text)
            mean = f"{means[text]:.1f}" if text in means else "-"
            of_streams = [f"{gains[stream]:.1f}" if stream in gains else "-" for stream in streams]
            lines.append([name, shown(settings), *of_streams, f"**{mean}**" if settings == chosen.get(name) else mean])
    return markdown(["method", "settings", *streams, "mean"], lines)


def shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={study.spelled(value)}`" for name, value in settings.items())


def chosen_table(pipeline: Pipeline) -> str:
    """What the search chose for each method: for all streams, and what the best for each stream alone would gain."""
    rows, streams, lines = read_rows(pipeline.table(search.NAME)), search.searched(pipeline), []
    for method, settings in search.best_settings(rows, pipeline.declaration(search.NAME), streams).items():
        gains = search.gains(rows, method)
        own, cell = gains[json.dumps(settings)], []
        for stream in streams:
            alone = search.best(gains, (stream,))
            cell.append(f"{own[stream]:.1f} ({gains[json.dumps(alone)][stream]:.1f})")
        lines.append([method, str(len(gains)), shown(settings), *cell])
    return markdown(["method", "trials", "settings", *(f"gain, {stream} (best there)" for stream in streams)], lines)


def plain_table(path: Path) -> str:
    """A CSV file as it is."""
    rows = read_rows(path)
    return markdown(list(rows[0]), [list(row.values()) for row in rows])


def parameter_table() -> str:
    """Every parameter of retrieval: name, value in params.yaml, what is allowed, meaning."""
    return declarations(load_parameters(), of_methods(parameters.OF_RETRIEVAL))


def of_methods(names: Collection[str]) -> dict[str, Parameter]:
    """The parameters of their own sections."""
    found = (leaf for name in names for leaf in leaves(method_class(name).Settings, f"{name}."))
    return {name: Parameter(field) for name, field in found}


def grounding_table() -> str:
    """The same for grounding, of what retrieval does not have or declares otherwise."""
    values = GROUNDING.defaults()
    own = {
        name for name, kind in values.schema.parameters.items() if name not in GENERAL or differ(kind, GENERAL[name])
    }
    methods = of_methods(OF_DETECTORS)
    return declarations(values, methods, own | {*methods})


def differ(kind: Parameter, other: Parameter) -> bool:
    """Whether two declarations say different things."""
    return (kind.range, kind.help) != (other.range, other.help)


def declarations(values: Parameters, more: Mapping[str, Parameter], shown: Collection[str] | None = None) -> str:
    """A table of parameters, in the order in which the file has them.

    Args:
        values: of the file.
        more: declarations besides those of its schema.
        shown: names; None: all.
    """
    known = {**values.schema.parameters, **more}
    lines = [
        [f"`{name}`", study.spelled(value), known[name].range, known[name].help]
        for name, value in values.items()
        if name in known and (shown is None or name in shown)
    ]
    return markdown(["parameter", "value", "allowed", "meaning"], lines)


def targets_table() -> str:
    return markdown(["what", "wanted", "measured", "reached", "table"], [target.cells() for target in TARGETS])


OF_STUDY: dict[str, tuple[str, Callable[[Groups], str]]] = {  # name -> the group that it needs, the table
    "methods in short": (
        "methods",
        partial(methods_in_short, OF_RETRIEVAL, "gain on the control", {"stream": "mixed"}),
    ),
    **{f"methods, {stream}": ("methods", partial(whole_methods, OF_RETRIEVAL, stream)) for stream in RETRIEVAL.streams},
    **{
        f"comparison, {stream}": ("methods", partial(comparison_table, OF_RETRIEVAL, stream))
        for stream in RETRIEVAL.streams
    },
    "components": ("components", partial(components_table, OF_RETRIEVAL)),
    "routing": ("routing", partial(routing_table, OF_RETRIEVAL)),
    "patch dropout": ("patch dropout", partial(plain_group, OF_RETRIEVAL, "patch dropout")),
    "training scenes": ("training scenes", partial(crossed, OF_RETRIEVAL, "training scenes", "scenes per task")),
    "variants of the stream": (
        "variants of the stream",
        partial(crossed, OF_RETRIEVAL, "variants of the stream", "stream"),
    ),
    "grounding methods in short": (
        "grounding methods",
        partial(methods_in_short, OF_GROUNDING, "gain with true tasks", {"routing": "oracle"}),
    ),
    "grounding methods": ("grounding methods", partial(whole_methods, OF_GROUNDING, "aspects")),
    "grounding comparison": ("grounding methods", partial(comparison_table, OF_GROUNDING, "aspects")),
    "grounding comparison, smallest": (
        "grounding methods",
        partial(comparison_table, OF_GROUNDING, "aspects", label="smallest lpi"),
    ),
    "grounding components": ("grounding components", partial(components_table, OF_GROUNDING)),
    "grounding routing": ("grounding routing", partial(routing_table, OF_GROUNDING)),
    "grounding pictures": ("grounding pictures", partial(crossed, OF_GROUNDING, "pictures", "pictures per task")),
    "grounding variants": (
        "grounding variants of the stream",
        partial(crossed, OF_GROUNDING, "variants of the stream", "stream"),
    ),
    **{
        f"diffprompt joint, {stream}": ("diffprompt joint", partial(joint_table, stream))
        for stream in ("expressions", "plain")
    },
    "diffprompt stream": ("diffprompt stream", stream_table),
    "diffprompt parts": ("diffprompt parts", partial(plain_group, OF_PARTS, "parts")),
}
OF_SEARCH: dict[str, tuple[Pipeline, Callable[[Pipeline], str]]] = {
    "search": (RETRIEVAL, search_table),
    "settings": (RETRIEVAL, chosen_table),
    "grounding search": (GROUNDING, search_table),
    "grounding settings": (GROUNDING, chosen_table),
    "diffprompt search": (DRAWN, search_table),
}
OTHERS: dict[str, Callable[[], str]] = {
    "parameters": parameter_table,
    "parameters of grounding": grounding_table,
    "targets": targets_table,
}


def render(name: str, found: Groups) -> str:
    """The table of that name, or a line that says that there are no results yet."""
    if name in OTHERS:
        return OTHERS[name]()
    if name in OF_STUDY and OF_STUDY[name][0] in found:
        return OF_STUDY[name][1](found)
    if name in OF_SEARCH and OF_SEARCH[name][0].table(search.NAME).exists():
        pipeline, table = OF_SEARCH[name]
        return table(pipeline)
    if name not in OF_SEARCH and (path := RESULTS / f"{name}.csv").exists():
        return plain_table(path)
    return MISSING.format(name)


def updated(text: str, found: Groups) -> str:
    """The text with every marked table made anew."""
    return MARKS.sub(lambda match: f"{match[1]}\n{render(match[2], found)}\n\n{match[3]}", text)


def main() -> None:
    found = groups()
    for path in FILES:
        path.write_text(updated(path.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    no_options(__doc__)
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
