"""The scripts parse and stop early on wrong use; what the pages tell a reader to type exists; versions agree."""

from __future__ import annotations

import configparser
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.main import get_command

import volseg
from volseg.cli import app
from volseg.cli.train import _overrides
from volseg.datasets.phantom import phantom_keys
from volseg.errors import VolsegError
from volseg.training.checks.overrides import check_overrides

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "scripts").rglob("*.sh"), *(ROOT / "benchmarks").rglob("*.sh")])
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "data/README.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "container.md"),
    *sorted(path.parent / "docs" / "README.md" for path in ROOT.glob("bundles/[a-z]*/train.json")),
    ROOT / "docs" / "tour.ipynb",
]
SHELL = shutil.which("dash") or shutil.which("sh") or "sh"


def sh(*words: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SHELL, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- the scripts


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_strict_posix_shell(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in text
    assert sh("-n", script).returncode == 0
    code = re.sub(r"(^|\s)#.*", "", text)
    for bashism in (
        r"\[\[",
        r"\blocal\b",
        r"\bfunction\b",
        r"\bsource\b",
        r"\bdeclare\b",
        r"<<<",
        r"&>",
        r"\becho -[en]",
        r"==",
    ):
        assert not re.search(bashism, code), bashism


@pytest.mark.parametrize("script", [one for one in SCRIPTS if one.name != "steps.sh"], ids=lambda path: path.name)
def test_script_explains_itself_from_any_folder_and_does_nothing_more(script: Path, tmp_path: Path) -> None:
    result = sh(script, "--help", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"usage: sh (scripts|benchmarks)/", result.stdout)
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    result = sh(ROOT / "scripts/install.sh", "nonsense", cwd=tmp_path)
    assert result.returncode == 2
    assert "'nonsense' was not understood" in result.stderr
    result = sh(ROOT / "benchmarks/hippocampus.sh", tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert f"{tmp_path} has no dataset.json" in result.stderr
    result = sh(ROOT / "benchmarks/images.sh", tmp_path, "--minutes", cwd=tmp_path)
    assert result.returncode == 2
    assert "name the two folders of images" in result.stderr


def test_ci_calls_the_test_command_of_the_readme() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert "\nsh scripts/test.sh" in text
    assert "    sh scripts/test.sh\n" in (ROOT / "README.md").read_text()
    bash = shutil.which("bash")
    if bash:
        assert subprocess.run([bash, "-n", ROOT / ".ci/run"], check=False).returncode == 0


# --- installing, with a Python that only writes down what it is asked


FAKE_PYTHON = """#!/bin/sh
case $1 in
    -c) exit "${FAKE_FITS:-0}" ;;
    --version) echo "Python 3" && exit ;;
esac
echo "$*" >>"$FAKE_LOG"
case $* in *venv*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/install.sh", root / "scripts")
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "constraints.txt"):
        (root / name).write_text(f"{name}\n")
    (root / "fake python").write_text(FAKE_PYTHON)
    (root / "fake python").chmod(0o755)
    return root


def install(checkout: Path, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    log = checkout / "log"
    log.write_text("")
    asked = {"FAKE_LOG": str(log), "PYTHON": str(checkout / "fake python")} | environment
    result = sh(checkout / "scripts/install.sh", *words, cwd=checkout.parent, **asked)
    return result, log.read_text().splitlines()


def test_install_takes_torch_first_and_by_the_constraints(checkout: Path) -> None:
    result, calls = install(checkout)
    assert result.returncode == 0, result.stderr
    assert calls == [
        "-m venv --clear .venv",
        "-m pip install -q -c constraints.txt torch",
        "-m pip install -q -c constraints.txt -e .",
    ]


def test_install_is_done_once_for_the_same_versions(checkout: Path) -> None:
    install(checkout, "test")
    assert install(checkout, "test")[1] == []
    assert install(checkout)[1] == [], "what the tests need includes what a run needs"
    (checkout / "constraints.txt").write_text("numpy==1\n")
    assert len(install(checkout)[1]) == 2, "the environment is kept, the packages are brought up to date"
    assert install(checkout)[1] == []
    assert install(checkout, "test")[1][-1].endswith("-e .[test]")


def test_install_is_repeated_after_a_failure_and_after_a_move(checkout: Path) -> None:
    install(checkout)
    moved = checkout.rename(checkout.parent / "moved")
    assert len(install(moved)[1]) == 2
    (moved / ".venv/bin/python").write_text("#!/bin/sh\ncase $1 in -c) exit 0 ;; esac\nexit 9\n")
    (moved / "setup.cfg").write_text("changed\n")
    assert install(moved)[0].returncode == 9
    assert install(moved)[0].returncode == 9, "a failed installation leaves no stamp"


def test_install_says_which_python_it_wants(checkout: Path) -> None:
    result, _ = install(checkout, FAKE_FITS="1")
    assert result.returncode == 1
    assert "is no Python 3.10 to 3.14" in result.stderr


# --- the versions


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def requirements() -> list[Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"] + config["options.extras_require"]["test"]
    return [Requirement(line) for line in lines.split("\n") if line]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_each_requirement_is_pinned_once_to_a_version_it_allows(python: str) -> None:
    at: dict[str, str] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert canonicalize_name(pin.name) not in at, f"{pin.name} is pinned twice"
            (clause,) = pin.specifier
            assert clause.operator == "=="
            at[canonicalize_name(pin.name)] = clause.version
    assert at["torch"] == "2.13.0", "no local suffix, so that any build of it fits"
    for requirement in requirements():
        version = at.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} has no pin; see CONTRIBUTING.md"
        assert Version(version) in requirement.specifier, f"{requirement} does not allow the pinned {version}"


def test_each_core_dependency_is_justified() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    names = {
        canonicalize_name(Requirement(line).name) for line in config["options"]["install_requires"].split("\n") if line
    }
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2].partition("\n##")[0]
    told = {canonicalize_name(name) for name in re.findall(r"^\| ([A-Za-z-]+) \|", table, re.M)} - {"package"}
    assert told == names


def test_each_extra_is_told_where_one_installs() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    table = (ROOT / "docs/get-started/install.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    told = [name for cell in re.findall(r"^\| (`.+?`) \| ", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(told) == sorted(config["options.extras_require"])


def test_the_versions_of_volseg_agree() -> None:
    metadata = [json.loads(file.read_text()) for file in ROOT.glob("bundles/*/metadata.json")]
    assert {data["version"] for data in metadata} == {volseg.__version__}
    assert volseg.__version__ in (ROOT / "CHANGELOG.md").read_text()
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    supported = SpecifierSet(config["options"]["python_requires"])
    assert [n for n in range(20) if Version(f"3.{n}") in supported] == [10, 11, 12, 13, 14], (
        "as scripts/install.sh has it"
    )


# --- what the pages tell a reader to type


def typed(page: Path) -> list[str]:
    """The commands of a page: indented blocks, one line each; of a script or notebook: the lines that run volseg."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        return re.findall(r"^volseg .*$", "\n".join(cells).replace("\\\n", " "), re.M)
    text = text.replace("\\\n", " ")
    if page.suffix == ".sh":
        return [line.removeprefix("run ") for line in text.split("\n") if line.startswith("run volseg")]
    return re.findall(r"^    ((?:volseg|python|sh|\.) .*)$", text, re.M)


COMMANDS = [(page, line) for page in [*PAGES, *SCRIPTS] for line in typed(page)]


def test_the_pages_hold_the_commands_that_matter() -> None:
    lines = [line for _, line in COMMANDS]
    assert "python -m monai.bundle run training --config_file bundles/swinunetr/train.json" in lines
    assert sum(line.startswith("volseg ") for line in lines) >= 15


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page.name}: {line[:60]}" for page, line in COMMANDS])
def test_a_printed_command_exists(page: Path, line: str, help_of_script: Callable[[str | Path], str]) -> None:
    words = shlex.split(re.sub(r"\s#.*", "", line))  # shlex would take --loss#gamma for a comment
    words = list(takewhile(lambda word: word not in ("|", "||", ">"), words))
    if words[0] == "volseg":
        parse_volseg(words[1:])
    elif words[:4] == ["python", "-m", "monai.bundle", "run"]:
        parse_bundle(words[4:])
    elif words[:3] == ["python", "-m", "monai.bundle"]:
        parse_monai(words[3], words[4:])
    elif words[0] == "sh":
        assert (ROOT / words[1]).is_file()
        assert sh(words[1], "--help").returncode == 0
    elif words[0] == "python":
        told = help_of_script(ROOT / words[1])
        assert {word for word in words if word.startswith("-")} <= set(re.findall(r"--?[\w-]+", told))
    else:
        assert words == [".", ".venv/bin/activate"]


def parse_volseg(words: list[str]) -> None:
    """Parse with the command line's own parser; raises what a user would see."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        if not words and command.invoke_without_command:
            return
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    context = command.make_context(name, [word for word in words if word != "$@"])
    if context.args:
        bundle = ROOT / "bundles" / context.params["bundle"]
        (file,) = [*bundle.glob("train.json"), *bundle.glob("configs/train.json")]  # a package has a folder for them
        check_overrides(config(str(file.relative_to(ROOT))), _overrides(context.args))


def parse_bundle(words: list[str]) -> None:
    """The id to run and each override must be in the config files."""
    run_id, *options = words
    given = dict(zip(options[::2], options[1::2], strict=True))
    files = given.pop("--config_file")
    content: dict[str, object] = {}
    for file in files.strip("[]").replace("'", "").split(","):
        content |= config(file)
    assert run_id in content
    check_overrides(content, {name.removeprefix("--"): value for name, value in given.items()})


def parse_monai(command: str, words: list[str]) -> None:
    """Another command of MONAI: each option is one of its own, or an id of the config or the metadata."""
    own = inspect.signature(getattr(monai.bundle, command)).parameters
    net_id, *options = words
    given = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    content = config(given["config_file"]) | {"_meta_": config(given["meta_file"])}
    assert net_id in content
    check_overrides(content, {name: value for name, value in given.items() if name not in own})


def config(file: str) -> dict[str, object]:
    path = re.sub(r"\$\(volseg bundles path (\w+)\)", r"bundles/\1", file)
    content: dict[str, object] = json.loads((ROOT / path).read_text())
    return content


def test_brackets_of_a_printed_command_are_quoted() -> None:
    """The shell of a Mac, zsh, refuses `--flip_axes [0]` and `pip install volseg[dicom]`: no file has such a name."""
    lines = [line for _, line in COMMANDS]
    for page in PAGES:
        text = re.sub(r"\]\([^)]*\)", "", page.read_text())
        lines += re.findall(r"(?:pip install|--[a-z_]+) ['\"]?[a-z]*\[[\w, ]+\]['\"]?", text)
    assert any("[" in line for line in lines)
    bare = [line for line in lines if "[" in re.sub(r"'[^']*'|\"[^\"]*\"", "", re.sub(r"\s#.*", "", line))]
    assert bare == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/how-to/calibration.md"], ids=lambda page: page.name)
def test_a_cross_validation_that_is_calibrated_keeps_its_probabilities(page: Path) -> None:
    text = page.read_text()
    for folder in set(re.findall(r"volseg calibrate (\S*crossval)\b", text)):
        before = text.partition(f"volseg calibrate {folder}")[0]
        made = re.findall(rf"volseg crossval [^`\n]* -o {folder}[^`\n]*", before)
        assert made
        assert "--save-probabilities" in made[-1]


def test_a_printed_command_that_does_not_exist_would_be_found() -> None:
    for words, error in (
        (["predicts"], "no command"),
        (["predict", "swinunetr", "x", "-o", "y", "--parts", "all"], "No such option: --parts"),
        (["predict", "swinunetr"], "Missing"),
        (["convert", "madison", "x", "y"], "no command madison"),
    ):
        with pytest.raises(Exception, match=error):
            parse_volseg(words)
    with pytest.raises(VolsegError, match="--max_epochs"):
        parse_volseg(["train", "swinunetr", "--max_epoch", "3"])
    with pytest.raises(VolsegError, match="--dataset_dir"):
        parse_bundle(["training", "--config_file", "bundles/swinunetr/train.json", "--data_set_dir", "x"])


def test_the_table_of_commands_is_complete() -> None:
    table = (ROOT / "docs/reference/commands.md").read_text()
    told = {tuple(cell.split()) for cell in re.findall(r"^\| `volseg ([a-z0-9_ -]+)", table, re.M)}
    root = get_command(app)
    there = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        there |= {(name, word) for word in inner or ()}
        there |= {(name,)} if not inner or command.invoke_without_command else set()
    assert told == there


def test_the_table_of_settings_is_that_of_train_json() -> None:
    """A default that changes in the JSON must change in the table; `$A if @gpu else B` stands in two columns."""
    page = (ROOT / "bundles/swinunetr/docs/README.md").read_text()
    content = config("bundles/swinunetr/train.json")
    rows = re.findall(r"^\| `([a-z_#]+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", page, re.M)
    check_overrides(content, {name: None for name, _, _ in rows})
    told = {name: (cpu, gpu) for name, cpu, gpu in rows}
    settings = {
        "max_epochs",
        "learning_rate",
        "batch_size",
        "crops_per_case",
        "feature_size",
        "window_size",
        "roi_voxels",
    }
    for name in settings | {"val_interval", "precision", "fold", "seed"}:
        value = re.sub(r"\$@planned\.value\('\w+', (.+)\)", r"\1", str(content[name]))
        value = value if " if " not in value or value.startswith("$") else f"${value}"
        by_device = re.fullmatch(r"\$(.+) if @gpu else (.+)", value)
        expected = (by_device[2], by_device[1]) if by_device else (value, value)
        assert told[name] == expected, f"{name} is {value} in train.json"


def test_commands_are_told_so_that_any_shell_reads_them_as_they_were_run(tmp_path: Path) -> None:
    quickstart = (ROOT / "scripts" / "quickstart.sh").read_text()
    own = re.search(r"^run\(\) \{.*?^\}", quickstart, re.MULTILINE | re.DOTALL)
    assert own is not None
    words = ["printf", "%s", "[5,5,4]", "a b", "--x=1,2", "", "data/out"]
    typed = shlex.join(words)
    steps = f"here={ROOT}; refuse() {{ exit 2; }}; volseg() {{ :; }}; . {ROOT}/scripts/steps.sh"
    for script in (own[0], steps):
        made = subprocess.run(
            ["sh", "-c", f"{script}\nrun {typed} >/dev/null; run {typed}"], capture_output=True, text=True, check=True
        )
        told = made.stdout.splitlines()[1]
        assert told.startswith("$ ")
        assert shlex.split(told.removeprefix("$ ")) == words
        assert "'[5,5,4]'" in told


def test_the_quickstart_counts_the_phantom() -> None:
    patients = [patient for patient, _ in phantom_keys()]
    days = len(patients) // len(set(patients))
    assert (
        f"{len(set(patients))} patients with {days} treatment days each"
        in (ROOT / "docs/get-started/quickstart.md").read_text()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).is_file(), link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs/images").glob("*"))
    assert pictures
    assert all(picture.stat().st_size < 300_000 for picture in pictures)
