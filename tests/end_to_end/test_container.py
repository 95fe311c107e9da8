"""The container's files: they install what scripts/install.sh does, take in nothing else, and run as nobody special."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import Step, ignored, lineage, read_patterns, read_steps
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from typer.main import get_command

import volseg
from volseg.cli import app

ROOT = Path(__file__).resolve().parents[2]
STEPS = read_steps(ROOT / "Dockerfile")
STAGES = list(dict.fromkeys(step.stage for step in STEPS))
PATTERNS = read_patterns(ROOT / ".dockerignore")
COMPOSE: dict[str, Any] = yaml.safe_load(
    re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text())  # with the defaults of its variables
)
SERVICES: dict[str, Any] = COMPOSE["services"]
PAGE = (ROOT / "docs" / "how-to" / "container.md").read_text()


def of(word: str, stage: str = "cli") -> list[Step]:
    """The instructions of one kind that a stage is made by."""
    return [step for step in lineage(STEPS, stage) if step.word == word]


def setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def argument(name: str) -> str:
    (step,) = [step for step in of("ARG") if step.rest.startswith(f"{name}=")]
    return step.rest.partition("=")[2].strip('"')


def parse(words: list[str]) -> None:
    """Parse a command with the command line's own parser; raises what a user would see."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    command.make_context(command.name, list(words))


# --- the Dockerfile


def test_each_stage_stands_on_a_version() -> None:
    made: set[str] = set()
    for step in STEPS:
        if step.word == "FROM":
            base, _, name = step.rest.split()
            assert base in made or re.fullmatch(r"python:\d+\.\d+-slim-\w+", base), base
            made.add(name)
    assert STAGES[-1] == "cli", "what is built where no target is named"


def test_its_python_is_the_one_that_is_tested() -> None:
    version = of("FROM")[0].rest.removeprefix("python:").split("-")[0]
    assert version in SpecifierSet(setup()["options"]["python_requires"])
    assert "python3.11" in (ROOT / "scripts/install.sh").read_text()
    assert version == "3.11"


@pytest.mark.parametrize("step", [step for step in STEPS if step.word == "COPY"], ids=lambda step: step.rest)
def test_what_is_copied_is_in_the_context(step: Step) -> None:
    assert "from" not in step.options
    for source in step.rest.split()[:-1]:
        assert (ROOT / source).exists()
        assert not ignored(source, PATTERNS)


def test_the_context_holds_the_package_and_the_bundles_and_nothing_else() -> None:
    for folder in ("volseg", "bundles"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and not {"__pycache__", "models"} & set(file.parts):
                assert not ignored(file.relative_to(ROOT).as_posix(), PATTERNS), file
    for name in (
        *(".git/config", ".venv/bin/python", ".env", "data/uw-madison/train.csv", "output/run/model.pt"),
        *("tests/conftest.py", "volseg/__pycache__/rle.pyc", "volseg/report/__pycache__/cells.pyc"),
        *("bundles/unet/models/model.pt", "bundles/unet/model.pt", "anything.nii.gz", "docs/tour.ipynb"),
    ):
        assert ignored(name, PATTERNS), name
    for name in ("hippocampus", "phantom"):
        assert not ignored(f"bundles/{name}/models/model.pt", PATTERNS), "which comes with volseg"


@pytest.mark.parametrize(
    ("name", "patterns", "out"),
    [
        ("a/b.txt", ["*"], True),
        ("a/b.txt", ["*", "!a"], False),
        ("a/b.txt", ["*", "!a", "a/*.txt"], True),
        ("a/b/c.pt", ["**/*.pt"], True),
        ("c.pt", ["**/*.pt"], True),
        ("a/b.txt", ["*.txt"], False),
        ("ab/c", ["a"], False),
    ],
)
def test_the_last_pattern_decides(name: str, patterns: list[str], out: bool) -> None:
    assert ignored(name, patterns) is out


@pytest.mark.parametrize("stage", ["cli", "demo"])
def test_it_runs_as_an_ordinary_user(stage: str) -> None:
    user = of("USER", stage)[-1].rest
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert any(f"--uid {user.split(':')[0]} " in step.rest for step in of("RUN", stage))
    assert lineage(STEPS, stage).index(of("USER", stage)[-1]) > lineage(STEPS, stage).index(of("RUN", stage)[-1])


def test_nothing_is_fetched_but_by_pip() -> None:
    assert not [step for step in STEPS if step.word == "ADD"]
    for step in STEPS:
        if step.word == "RUN":
            assert not re.search(r"\b(curl|wget|git|apt-get|apt)\b|https?:", step.rest), step.rest


def test_the_variables_are_those_of_the_scripts() -> None:
    exported = re.findall(r"^export (.*=.*)$", (ROOT / "scripts/test.sh").read_text(), re.M)
    wanted = {word for line in exported for word in line.split()}
    assert wanted
    assert wanted <= {word for step in of("ENV") for word in step.rest.split()}


def test_the_demo_answers_where_it_is_asked() -> None:
    (port,) = [step.rest for step in of("EXPOSE", "demo")]
    (health,) = of("HEALTHCHECK", "demo")
    entry = json.loads(of("ENTRYPOINT", "demo")[-1].rest)
    assert entry == ["volseg", "demo", "--host", "0.0.0.0", "--port", port]
    assert {"interval", "timeout"} <= health.options.keys()
    python, option, source = json.loads(health.rest.removeprefix("CMD "))
    assert (python, option) == ("python", "-c")
    compile(source, "healthcheck", "exec")
    assert f"'127.0.0.1', {port}," in source


def test_the_demo_is_healthy_only_while_something_answers() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    source = json.loads(of("HEALTHCHECK", "demo")[0].rest.removeprefix("CMD "))[2]
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        asked = [sys.executable, "-c", source.replace("7860", str(server.server_port))]
        Thread(target=server.handle_request, daemon=True).start()
        assert subprocess.run(asked, check=False).returncode == 0
    assert subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode != 0


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# --- what is installed, and in which order


def test_it_installs_as_the_script_does() -> None:
    """torch first and by the constraints, then the rest; the source last, which brings nothing along."""
    script = re.findall(r"-m pip install (.*)", (ROOT / "scripts/install.sh").read_text())
    assert script == ["-q -c constraints.txt torch", '-q -c constraints.txt -e ".${extra:+[$extra]}"']
    commands = [found for step in of("RUN") for found in re.findall(r"python -m pip install ([^;&]*[^;& ])", step.rest)]
    assert commands == [
        '-c constraints.txt --no-deps --index-url "$TORCH_INDEX" torch',
        "-c constraints.txt torch",
        '-c constraints.txt ".[$EXTRAS]"',
        "--no-deps /wheels/*.whl",
    ]
    assert argument("TORCH_INDEX") == "", "the default build of the index that pip uses anyway"


def test_an_edit_of_the_source_installs_the_dependencies_from_the_cache() -> None:
    steps = lineage(STEPS, "cli")
    (dependencies,) = [n for n, step in enumerate(steps) if "$EXTRAS" in step.rest]
    before = {name for step in steps[:dependencies] if step.word == "COPY" for name in step.rest.split()[:-1]}
    assert before == {"constraints.txt", "setup.cfg", "pyproject.toml"}


def test_the_extras_exist_and_are_pinned() -> None:
    extras = setup()["options.extras_require"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")}
    for extra in argument("EXTRAS").split(","):
        assert extra in extras
        assert {canonicalize_name(Requirement(line).name) for line in extras[extra].split()} <= pinned


@pytest.mark.long
def test_its_steps_install_a_volseg_that_runs(tmp_path: Path) -> None:
    """The steps of the Dockerfile, in a new virtual environment in the place of the image."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {"PATH": f"{tmp_path / 'venv/bin'}:/usr/bin:/bin"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment |= {step.rest.partition("=")[0]: step.rest.partition("=")[2].strip('"') for step in of("ARG")}
    for stage in ("wheel", "installed"):
        for step in [step for step in STEPS if step.stage == stage]:
            build(step, tmp_path, environment)
    place = tmp_path / "volseg"
    assert sorted(path.name for path in place.iterdir()) == [
        "bundles",
        "constraints.txt",
        "pyproject.toml",
        "setup.cfg",
    ]

    def run(*words: str) -> str:
        return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=True).stdout

    assert run("volseg", "--version") == f"volseg {volseg.__version__}\n"
    assert run("python", "-c", "import volseg; print(volseg.__file__)").startswith(str(tmp_path / "venv"))
    run("python", "-m", "pip", "check")
    run("python", "-c", "import gdcm, gradio, monai, openjpeg, torch")
    run("volseg", "phantom", "../raw", "--patients", "2", "--days", "1")
    run("volseg", "convert", "uw_madison", "../raw", "data/cohort", "--folds", "2")
    settings = ("--dataset_dir", "data/cohort", "--device", "cpu")
    assert "the checks passed" in run("volseg", "train", "unet", "--dry", *settings)


def build(step: Step, root: Path, environment: dict[str, str]) -> None:
    """Do one instruction under another root; the user and the folders of the image are left out."""
    if step.word == "WORKDIR":
        environment["PWD"] = str(root) + step.rest
        Path(environment["PWD"]).mkdir()
    elif step.word == "COPY":
        *sources, target = step.rest.split()
        for source in sources:
            if (ROOT / source).is_dir():
                left_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, Path(environment["PWD"], target), ignore=left_out)
            else:
                shutil.copy(ROOT / source, Path(environment["PWD"], target))
    elif step.word == "RUN" and "useradd" not in step.rest:
        line = re.sub(r"(?<=\s)/wheels", f"{root}/wheels", step.rest)
        subprocess.run(["sh", "-euc", line], cwd=environment["PWD"], env=environment, check=True)


# --- compose.yaml


def test_compose_has_the_command_the_training_and_the_demo() -> None:
    assert SERVICES.keys() == {"volseg", "train", "demo"}
    for name, service in SERVICES.items():
        assert service["build"]["target"] in STAGES
        assert service["build"]["args"].keys() <= {step.rest.partition("=")[0] for step in of("ARG")}
        assert service["user"] not in ("root", "0", "0:0")
        assert not service.get("privileged")
        assert service["cap_drop"] == ["ALL"]
        assert service["shm_size"].endswith("gb"), "64 MB are too few for loaders"
        assert ("profiles" in service) == (name != "demo"), "`docker compose up` starts the demo alone"


def test_data_are_read_only_and_output_is_not() -> None:
    made = " ".join(step.rest for step in of("RUN"))
    for service in SERVICES.values():
        mounts = {mount["target"]: mount for mount in service["volumes"]}
        assert mounts.keys() == {"/data", "/output"}
        assert mounts["/data"]["read_only"] is True
        assert "read_only" not in mounts["/output"]
        assert all(target in made for target in mounts)
        assert all(mount["bind"] == {"create_host_path": False} for mount in mounts.values())


def test_the_demo_is_reached_from_this_machine_alone() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["demo"]
    assert SERVICES["demo"]["ports"] == ["127.0.0.1:7860:7860"]
    assert not any("network_mode" in service for service in SERVICES.values())


def test_the_training_has_the_gpus() -> None:
    (device,) = SERVICES["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert not any("deploy" in SERVICES[name] for name in ("volseg", "demo"))


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_runs_exists(name: str) -> None:
    service = SERVICES[name]
    stage = service["build"]["target"]
    entry = service.get("entrypoint", json.loads(of("ENTRYPOINT", stage)[-1].rest))
    command = service.get("command", json.loads(of("CMD", stage)[-1].rest))
    program, *words = [*entry, *command]
    assert program == "volseg"
    if words != ["--help"]:
        parse(words)


# --- docs/how-to/container.md


def test_the_page_tells_each_variable_and_its_default() -> None:
    table = PAGE.partition("| variable |")[2]
    told = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M))
    used = re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "compose.yaml").read_text())
    assert told.keys() == {name for name, _ in used}
    for name, default in used:
        assert (f"`{default}`" if default else "none") in told[name].split(", ")


def test_the_engine_builds_with_the_extras_of_the_image_and_leaves_a_training_time_to_end() -> None:
    for service in SERVICES.values():
        assert service["build"]["args"]["EXTRAS"] == argument("EXTRAS")
    assert SERVICES["train"]["stop_grace_period"] == "2m"
    assert "docker stop -t 120" in PAGE


LINES = re.findall(r"^    (docker .*)$", PAGE, re.M)


@pytest.mark.parametrize("line", LINES)
def test_a_printed_command_exists(line: str) -> None:
    words = shlex.split(line)
    if words[:3] == ["docker", "compose", "run"]:
        assert words[3] == "--rm"
        rest = words[4:]
        while rest[0] == "-e":
            rest = rest[2:]
        service = SERVICES[rest[0]]
        parse([*service.get("entrypoint", ["volseg"])[1:], *rest[1:]])
    elif words[1] == "run":
        after = words.index("volseg") if "volseg" in words else words.index("volseg-demo")
        parse([*(["demo"] if words[after] == "volseg-demo" else []), *words[after + 1 :]])
    elif words[1] == "build":
        given = dict(pairwise(words))
        assert given.get("--target", "cli") in STAGES
        if "--build-arg" in given:
            argument(given["--build-arg"].partition("=")[0])
        assert words[-1] == "."
    else:
        assert words[:3] == ["docker", "compose", "up"]
        assert words[3] in SERVICES
