"""Every command of README.md, CONTRIBUTING.md and docs/ is run on a tiny stream, or checked as `RULES` says."""

import contextlib
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from lpi.commands.main import VERBS
from lpi.commands.main import parser as command_line
from lpi.methods import check, resolve
from lpi.models.backbone import Backbone
from lpi.parameters import DETECTOR
from lpi.runtime.devices import NAMES as DEVICES

import claims
import documents
import plan
import pytest
import yaml
from conftest import ROOT

PAGES = [
    page
    for page in documents.pages()
    if page.parts[0] in ("README.md", "CONTRIBUTING.md", "docs") and not documents.is_kept(page)
]
VARIABLE = re.compile(r"([A-Z_]+)=(\S+)")


def words_of(command: str) -> list[str]:
    """The words of the command up to a pipe, without variables that stand before it."""
    words = shlex.split(command.partition(" | ")[0])
    while VARIABLE.fullmatch(words[0]):
        del words[0]
    return words


def variables_of(command: str) -> dict[str, str]:
    """The variables that stand before the command."""
    return dict(VARIABLE.findall(command.partition(words_of(command)[0])[0]))


def made(command: str) -> None:
    """The Makefile knows how to make it, and sees the variables."""
    variables = variables_of(command)
    arguments = ["make", "--dry-run", *words_of(command)[1:]]
    environment = {**os.environ, **variables}
    output = subprocess.run(arguments, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    assert all(f"'{value}'" in output for value in variables.values()), output
    settings = dict(word.partition("=")[::2] for word in arguments if "=" in word)
    if "SET" in settings:
        with contextlib.chdir(settings.get("FOLDER", ".")):
            possible(f"dvc exp run {settings['SET']}")


def explained(command: str) -> None:
    """The script says what it does with `--help`, and knows the options."""
    _, script, *arguments = words_of(command)
    text = help_of(script)
    for option in (word for word in arguments if word.startswith("-")):
        assert re.search(rf"(?<!\S){option}\b", text), f"{script} does not know {option}"


def help_of(script: str) -> str:
    """What the script prints with `--help`; in this process, which has loaded torch already."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, "--help"])
        patch.setattr(
            "argparse.ArgumentParser._print_message", lambda self, message, file=None: printed.append(message)
        )
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not stopped.value.code, f"{script} --help: {stopped.value.code}"
    return "".join(printed)


def settings_of(command: str) -> list[list[str]]:
    """The settings of every experiment of `dvc exp run`: one for each value of a sweep."""
    words, runs = words_of(command), [[]]
    for setting in (words[place + 1] for place, word in enumerate(words) if word == "-S"):
        name, _, values = setting.partition("=")
        runs = [[*run, f"{name}={value}"] for run in runs for value in values.split(",")]
    return runs


def possible(command: str) -> None:
    """The parameters exist and their values are possible, with the backbone of the committed params.yaml."""
    for settings in settings_of(command):
        parameters = resolve(plan.set_parameters(settings))
        if DETECTOR not in parameters:
            check(parameters, Backbone(parameters["backbone"]).config)


def possible_in_grounding(command: str) -> None:
    """The same, with the parameters of the second pipeline."""
    with contextlib.chdir("grounding"):
        possible(command)


def has_pipeline(command: str) -> None:
    """The folder has a pipeline of its own."""
    assert (ROOT / words_of(command)[1] / "dvc.yaml").exists()


def known_variable(command: str) -> None:
    """The code reads the variable, and the value is of its kind; the command itself has another rule."""
    ((name, value),) = variables_of(command).items()
    assert any(f'"{name}"' in path.read_text() for path in (ROOT / "src").rglob("*.py")), name
    assert (DEVICES.fullmatch if name == "LPI_DEVICE" else str.isdigit)(value), command


def installs(command: str) -> None:
    """The files and extras that the command names exist."""
    assert all((ROOT / word).exists() for word in words_of(command) if word.endswith(".txt"))
    known = re.findall(r"(?m)^(\w+) = \[", (ROOT / "pyproject.toml").read_text())
    for extras in re.findall(r"\[([\w,]+)\]", command):
        assert set(extras.split(",")) <= set(known), extras


def names_tests(command: str) -> None:
    """The files of tests exist."""
    assert all((ROOT / word).exists() for word in words_of(command) if word.startswith("tests/"))


def in_test(name: str) -> Callable[[str], None]:
    """The test of this name, MODULE::FUNCTION, claims to run the command; it fails if it does not (tests/claims.py)."""

    def claimed(command: str) -> None:
        module, _, function = name.partition("::")
        marks = getattr(getattr(import_module(module), function), "pytestmark", [])
        assert command in [claim for mark in marks if mark.name == "runs" for claim in mark.args], (name, command)

    return claimed


def known_to_dvc(command: str) -> None:
    """DVC has the command; what follows it stands on another page."""
    subprocess.run([sys.executable, "-m", *words_of(command), "--help"], check=True, capture_output=True)


def has_hooks(command: str) -> None:
    """The hooks are programs of the environment; pre-commit itself is the reader's."""
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    known = (ROOT / "constraints.txt").read_text()
    for hook in local["hooks"]:
        program, *_ = hook["entry"].split()
        assert hook["language"] == "system"
        assert re.search(rf"(?m)^{program.removeprefix('.venv/bin/')}==", known), program


def configures(command: str) -> None:
    """DVC takes it as a setting of a clone."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".dvc").mkdir()
        (Path(folder) / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
        subprocess.run([sys.executable, "-m", *words_of(command)], cwd=folder, check=True)
        assert (Path(folder) / ".dvc" / "config.local").read_text()


def runs(command: str) -> None:
    """`test_commands_run_on_a_finished_run` runs it; there is nothing else to check."""


def parsed(command: str) -> None:
    """The command `lpi` takes these words; those of docs/use.md that need no download run in tests/test_use.py."""
    verb, *arguments = words_of(command)[1:]
    assert verb in VERBS
    if not arguments:  # the page speaks of the verb
        return
    options = command_line().parse_args([verb, *arguments])
    if (name := getattr(options, "model", None)) and "/" in name:
        Backbone(name)


SLURM = in_test("test_sharing::test_the_slurm_script_runs_its_line_in_a_clone")
SKY = in_test("test_sharing::test_the_skypilot_job_runs_its_experiment")
OWN = in_test("test_real_data::test_the_readmes_example_of_own_images_runs")
BOXES = in_test("test_grounding_pipeline::test_the_example_of_own_pictures_is_read_as_the_page_says")
REMOTE = in_test("test_sharing::test_a_second_clone_trains_nothing_that_the_first_has_trained")
INSTALL = in_test("test_install::test_a_clone_is_installed_and_activated_as_the_pages_say")
CACHE = in_test("test_sharing::test_a_shared_cache_is_open_to_the_group")
CLONE = in_test("test_sharing::test_a_clone_that_pulls_has_nothing_to_do_and_gets_experiments")
ARTIFACTS = in_test("test_sharing::test_others_get_the_backbone_and_the_final_prompts_by_name")
DRAWN = in_test("test_grounding_pipeline::test_one_can_go_back_from_drawn_masks_and_to_them_again")
CHAIN = in_test("test_variants::test_the_command_of_the_page_makes_the_chain_of_forty_tasks")
RULES: tuple[tuple[str, Callable[[str], None]], ...] = (  # the first pattern that fits a whole command counts
    (r"make plan", runs),
    (r"make .*|(PYTHON|TORCH_INDEX)=\S+ make install", made),
    (r"python (benchmarks|stages)/\w+\.py( .*)?", explained),
    (r"(\.venv/bin/)?python -m pytest tests/.*", names_tests),
    (r"(\.venv/bin/python -m )?pip install .*|python3 -m venv \.venv", installs),
    (r"git clone REPOSITORY lpi && cd lpi|source \.venv/bin/activate", INSTALL),
    (
        r"cp -r ~/photos ~/captions\.csv data/own/|sed -i '/\^  t02:/,\$d' params\.yaml|dvc exp run -S dataset=folder",
        OWN,
    ),
    (
        r"cp -r ~/photos ~/boxes\.csv grounding/data/own/|python \.\./stages/grounding/fetch\.py --explain data/own",
        BOXES,
    ),
    (r"for i in \$\(seq 12 39\); do .* >> params\.yaml", CHAIN),
    (r"git checkout params\.yaml dvc\.lock metrics", DRAWN),
    (r"sbatch .*", SLURM),
    (r"sky jobs launch .*", SKY),
    (r"pre-commit install", has_hooks),
    (r"dvc (remote add|cache dir|config) --local .*", configures),
    (r"dvc (push|pull) --run-cache.*|dvc repro --pull( --allow-missing)?", REMOTE),
    (r"dvc (push|pull|checkout)|dvc exp (run --name narrow -S rank=3|(push|pull|list) origin.*|apply narrow)", CLONE),
    (r"(install|chgrp|find|cp) .*/shared/lpi-cache.*", CACHE),
    (r"git (tag --annotate|push origin) prompts@v1\.0\.0.*|dvc artifacts get .*", ARTIFACTS),
    (r"dvc artifacts get", known_to_dvc),
    (r"sed -i .* params\.yaml|git checkout params\.yaml|cat metrics/report\.md", runs),
    (r"dvc exp run -S rank=[48]|dvc exp run --queue -S 'rank=2,8' -S seed=1", runs),
    (r"dvc exp run .*-S detector=.*", possible_in_grounding),
    (r"dvc exp run( --queue)?( -S .*)?", possible),
    (r"lpi .*", parsed),
    (r"cd grounding", has_pipeline),
    (r"LPI_\w+=\w+ dvc repro", known_variable),
    (r"dvc repro( train@t01| --force fetch)?", runs),
    (r"dvc (metrics (show --json|diff)|params diff|plots (show|diff)|queue status|exp (list|apply NAME))", runs),
    (r"dvc (exp show --only-changed|dag --md --collapse-foreach-matrix)", runs),
)


def rule_of(command: str) -> Callable[[str], None]:
    """How a command is checked.

    Raises:
        LookupError: no rule fits.
    """
    for pattern, rule in RULES:
        if re.fullmatch(pattern, command):
            return rule
    raise LookupError(f"no rule of tests/test_commands.py says how this command is checked: {command}")


def commands_of(page: Path) -> list[str]:
    return documents.commands(documents.read(page))


def executed(page: Path) -> list[str]:
    """The commands of a page that are run."""
    return [command for command in commands_of(page) if rule_of(command) is runs]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_of_a_page_is_known(page, in_the_repository):
    for command in commands_of(page):
        rule_of(command)(command)


def test_every_rule_is_for_a_command_of_some_page():
    commands = [command for page in PAGES for command in commands_of(page)]
    assert [pattern for pattern, _ in RULES if not any(re.fullmatch(pattern, command) for command in commands)] == []


def test_a_command_without_a_rule_and_a_wrong_option_are_found(in_the_repository):
    with pytest.raises(LookupError, match="dvc frobnicate"):
        rule_of("dvc frobnicate")
    with pytest.raises(AssertionError, match="does not know --wide"):
        explained("python benchmarks/costs.py --wide")
    with pytest.raises(ValueError, match="unknown parameter rang"):
        possible("dvc exp run -S 'rank=1,2' -S rang=8")
    with pytest.raises(subprocess.CalledProcessError):
        made("make dinner")
    with pytest.raises(AssertionError, match="LPI_SPEED"):
        known_variable("LPI_SPEED=2 dvc repro")


def test_a_claim_needs_the_command_itself():
    name = "test_sharing::test_a_clone_that_pulls_has_nothing_to_do_and_gets_experiments"
    in_test(name)("dvc pull")
    with pytest.raises(AssertionError, match="dvc pull --force"):
        in_test(name)("dvc pull --force")
    with pytest.raises(AssertionError, match="dvc pull"):
        in_test("test_sharing::test_a_second_clone_with_the_same_cache_runs_nothing")("dvc pull")


@pytest.mark.parametrize(
    ("call", "command", "same"),
    [
        ([sys.executable, "-m", "dvc", "push"], "dvc push", True),
        ([sys.executable, "-m", "dvc", "push", "--quiet"], "dvc push", False),
        ([sys.executable, "-m", "dvc", "push"], "dvc push --run-cache", False),
        (["bash", "-ec", "cd x\ndvc push   # all of it"], "dvc push", True),
        ("cp -r x /tmp/cache/", "cp -r x /shared/lpi-cache/", True),
        ("cp -r y /tmp/cache/", "cp -r x /shared/lpi-cache/", False),
        ("git clone /tmp/origin lpi", "git clone REPOSITORY lpi", True),
        ("git tag --message 'rank 4'", 'git tag --message "rank 4"', True),
    ],
)
def test_a_command_is_run_if_all_its_words_are_but_for_places(monkeypatch, call, command, same):
    monkeypatch.setattr(claims, "RUN", claims.commands_in(call))
    assert claims.missing([command]) == ([] if same else [command])


def test_what_a_test_runs_is_noted():
    assert claims.missing(["true REPOSITORY"]) == ["true REPOSITORY"]
    subprocess.run(["bash", "-c", "true somewhere"], check=True)
    assert claims.missing(["true REPOSITORY"]) == []


ALREADY_RUN: set[str] = set()  # a command that several pages have is run once


@pytest.fixture
def checkout(repository) -> Iterator[Callable[[str], None]]:
    """Runs a command of a page in the finished run."""
    shutil.copytree(ROOT / "benchmarks", repository.folder / "benchmarks", dirs_exist_ok=True)

    def execute(command: str) -> None:
        if command == "make plan":
            command = "python benchmarks/plan.py"
        if "NAME" in command:
            command = command.replace("NAME", repository.dvc("exp", "list", "--name-only").split()[0])
        repository.run("bash", "-c", command)

    yield execute
    repository.dvc("queue", "remove", "--all")
    for made_by_plots in ("benchmarks", "dvc_plots"):
        shutil.rmtree(repository.folder / made_by_plots, ignore_errors=True)


@pytest.mark.parametrize("page", [page for page in PAGES if executed(page)], ids=str)
def test_commands_run_on_a_finished_run(page, checkout):
    for command in executed(page):
        if command not in ALREADY_RUN:
            checkout(command)
            ALREADY_RUN.add(command)
