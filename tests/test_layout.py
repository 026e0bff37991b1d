"""The library is built in layers: what is lower knows nothing of what is higher."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = (  # lowest first; those of one layer may import each other
    {"runtime", "blocks", "encoder", "grounding_parameters", "losses", "metrics", "parameters", "prompts"},
    {"data"},
    {"models"},
    {"diffusion"},
    {"systems"},
    {"methods"},
    {"continual"},
    {"report"},
    {"grounding"},
    {"inference", "index"},
    {"export", "serve"},
    {"commands"},
)
MOST_MODULES = 12  # directly in the package
PUBLIC = {
    "encoder": ["PromptedCLIP"],
    "losses": ["contrastive_loss", "layer_alignment_loss", "task_contrast_loss"],
    "metrics": [
        "hit_ranks",
        "recall_at",
        "average_recall",
        "forgetting",
        "backward_transfer",
        "forward_transfer",
    ],
    "prompts": ["LowRankPrompts", "PromptInteraction"],
}


def imported(source: str, module: str) -> set[str]:
    """Full names of the modules, or of what is in them, that a module imports anywhere, also within functions.

    module: its name, `__init__` included, from which relative imports are resolved.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def layer_of(part: str, layers: tuple[set[str], ...]) -> int | None:
    """The place of a sub-package or module among the layers."""
    return next((place for place, names in enumerate(layers) if part in names), None)


def wrong_imports(package: Path, layers: tuple[set[str], ...]) -> list[str]:
    """One line for every import of a higher layer by a lower one, and for every file that is in no layer.

    The package's own `__init__.py` stands above all layers.
    """
    problems = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        if module == f"{package.name}.__init__":
            continue
        rank = layer_of(module.split(".")[1], layers)
        if rank is None:
            problems.append(f"{module} is in no layer")
            continue
        for name in sorted(imported(path.read_text("utf-8"), module)):
            first, _, rest = name.partition(".")
            other = layer_of(rest.partition(".")[0], layers)
            if first == package.name and other is not None and other > rank:
                problems.append(f"{module} imports {name}")
    return problems


def test_lower_layers_do_not_import_higher_ones():
    assert wrong_imports(ROOT / "src" / "lpi", LAYERS) == []


def test_few_modules_stand_directly_in_the_package():
    modules = [path.stem for path in (ROOT / "src" / "lpi").glob("[!_]*.py")]
    assert 0 < len(modules) <= MOST_MODULES


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_can_be_imported(module):
    found = import_module(f"lpi.{module}")
    assert [name for name in PUBLIC[module] if not callable(getattr(found, name, None))] == []


def made_up(folder: Path, files: dict[str, str]) -> Path:
    """A package `house` of a cellar and two floors above it; files: "floor/room" -> source."""
    package = folder / "house"
    for name in ("cellar", "ground", "attic"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "__init__.py").write_text("from house.attic import roof\n")
    (package / "tools.py").touch()
    for name, source in files.items():
        (package / f"{name}.py").write_text(source)
    return package


FLOORS = ({"cellar", "tools"}, {"ground"}, {"attic"})


def test_imports_downwards_and_within_a_layer_are_right(tmp_path):
    package = made_up(
        tmp_path,
        {
            "tools": "import house.cellar.wine\nimport attic",
            "cellar/wine": "from house import tools\nfrom . import beer\nimport os",
            "ground/door": "from house.cellar.wine import bottle\nfrom ..tools import hammer",
            "attic/roof": "import house.ground.door, house.cellar",
        },
    )
    assert wrong_imports(package, FLOORS) == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import house.attic.roof", "house.attic.roof"),
        ("import os, house.attic as up", "house.attic"),
        ("from house.attic.roof import tile", "house.attic.roof.tile"),
        ("from house import attic", "house.attic"),
        ("from .. import attic", "house.attic"),
        ("from ..attic import roof", "house.attic.roof"),
        ("def late():\n    if True:\n        from house.attic import roof", "house.attic.roof"),
        ("from house.tools import hammer\nfrom house.attic import roof", "house.attic.roof"),
    ],
)
def test_an_import_upwards_is_found(tmp_path, source, named):
    assert wrong_imports(made_up(tmp_path, {"ground/door": source}), FLOORS) == [f"house.ground.door imports {named}"]
    assert wrong_imports(made_up(tmp_path / "other", {"attic/roof": source}), FLOORS) == []


def test_an_init_file_is_checked_like_a_module(tmp_path):
    package = made_up(tmp_path, {"cellar/__init__": "from ..ground import door", "tools": "from .attic import roof"})
    assert wrong_imports(package, FLOORS) == [
        "house.cellar.__init__ imports house.ground.door",
        "house.tools imports house.attic.roof",
    ]


def test_a_file_in_no_layer_is_found(tmp_path):
    assert wrong_imports(made_up(tmp_path, {"shed": ""}), FLOORS) == ["house.shed is in no layer"]
