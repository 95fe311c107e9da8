"""The plan of the house, read from the code: which room may import which, and what must never be."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import house
import walks

import volseg

PACKAGE = Path(volseg.__file__).parent
CHECKOUT = PACKAGE.parent
BUNDLES = {path.parent.name for path in (CHECKOUT / "bundles").glob("*/train.json")}
HEAVY_ROOMS = {"transforms", "inference", "networks", "training", "deploy"}
# Its face loads nothing until one of its names is used.
OPENED_AT_FIRST_USE = {"inference", "transforms"}
HEAVY = {"torch", "monai", "ignite", "transformers", "torchvision", "lightning"}
# What `report` may take from `metrics`: intervals and words, no measure of a mask.
WORDS = {
    "OUTCOMES",
    "Outcome",
    "DICE_DEFINITION",
    "HD95_DEFINITION",
    "Interval",
    "mean_interval",
    "DRAWS",
    "LEVEL",
    "SEED",
}
# What `transformers` calls a network, and a bundle is called too.
FAMILIES = {"segformer"}

# Which rooms each room may import, floor by floor from the top; every arrow leads downward.
MAY_IMPORT = {
    "cli": "deploy crossval jobs training datasets inference calibration plan report bundle dicom "
    "evaluation formats pictures cohort labels remote errors",
    "deploy": "jobs inference bundle dicom evaluation formats pictures cohort labels metrics volume errors files",
    "crossval": "jobs training inference report bundle evaluation cohort labels metrics volume errors files",
    "jobs": "inference bundle evaluation cohort labels remote errors files",
    "training": "inference plan report transforms bundle pictures cohort labels volume errors files",
    "datasets": "formats cohort labels remote volume errors files",
    "inference": "bundle calibration dicom cohort transforms labels metrics volume errors files",
    "report": "evaluation pictures plan cohort labels metrics errors files",
    "bundle": "cohort labels volume errors files",
    "calibration": "cohort labels metrics volume errors files",
    "plan": "cohort volume errors files",
    "dicom": "cohort labels volume errors files",
    "evaluation": "cohort labels metrics volume errors",
    "formats": "cohort labels volume errors files",
    "pictures": "cohort labels volume errors files",
    "cohort": "labels metrics remote volume errors files",
    "transforms": "labels metrics volume errors",
    "labels": "errors",
    "metrics": "errors",
    "networks": "errors",
    "remote": "errors files",
    "volume": "errors files",
    "errors": "",
    "files": "errors",
}


@dataclass(frozen=True)
class Import:
    """`from module import name`, or `import module` (no name); `top` where it runs as the module is imported."""

    module: str
    name: str | None
    top: bool


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def name(self) -> str:
        parts = self.path.relative_to(CHECKOUT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """The first word below volseg; empty for volseg itself."""
        return self.name.partition(".")[2].partition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def imports(self) -> list[Import]:
        found = []

        def visit(node, top):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.Import):
                    found.extend(Import(alias.name, None, top) for alias in child.names)
                elif isinstance(child, ast.ImportFrom):
                    assert child.level == 0, f"{self.name}: relative import"
                    found.extend(Import(child.module, alias.name, top) for alias in child.names)
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(
                    child
                )
                visit(child, top and not inside)

        visit(self.tree, True)
        return found

    @property
    def targets(self) -> set[tuple[str, bool]]:
        """The modules of volseg that are imported, and whether at the top."""
        found = set()
        for item in self.imports:
            if item.module.split(".")[0] == "volseg":
                submodule = f"{item.module}.{item.name}"
                found.add((submodule if submodule in MODULES else item.module, item.top))
        return found

    @cached_property
    def docstrings(self) -> set[int]:
        """The ids of the nodes that are docstrings."""
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        bodies = [node.body for node in ast.walk(self.tree) if isinstance(node, kinds)]
        return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


MODULES: dict[str, Module] = {}
for _path in sorted(PACKAGE.rglob("*.py")):
    MODULES[Module(_path).name] = Module(_path)


def modules(test):
    """Run a test over all modules at once; what it says of each is told together."""

    def over_all_modules():
        failures = {}
        for name, module in MODULES.items():
            try:
                test(module)
            except AssertionError as error:
                failures[name] = str(error)
        assert failures == {}

    over_all_modules.__doc__ = test.__doc__
    return over_all_modules


def packages_of(module, *, top_only=False):
    return {item.module.split(".")[0] for item in module.imports if item.top or not top_only}


def calls(tree):
    """Each call by the last word of its name: `path.read_text()` is `read_text`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, node
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr, node


def test_imports_run_downhill_with_no_circle():
    edges = {name: {target for target, top in module.targets if top} - {name} for name, module in MODULES.items()}
    done: set[str] = set()

    def walk(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            for target in sorted(edges.get(name, ())):
                walk(target, [*trail, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    assert done >= set(MODULES)


def test_each_room_imports_only_what_its_row_of_the_table_allows():
    arrows = house.read_arrows()
    assert set(arrows) == set(MAY_IMPORT)
    allowed = {room: set(rooms.split()) for room, rooms in MAY_IMPORT.items()}
    assert {room: others - allowed[room] for room, others in arrows.items() if others - allowed[room]} == {}
    assert {room: others - arrows[room] for room, others in allowed.items() if others - arrows[room]} == {}, "unused"


def test_the_rooms_stand_on_nine_floors_at_most_and_no_arrow_leads_upward():
    arrows = house.read_arrows()
    assert house.circles(arrows) == []
    floor = house.floors(arrows)
    assert max(floor.values()) <= 9
    assert len(arrows) <= 24
    assert sum(map(len, arrows.values())) <= 140
    assert all(floor[other] < floor[room] for room, others in arrows.items() for other in others)


def test_few_rooms_are_opened_to_read_how_a_case_is_scored(tmp_path):
    """The demo's walk is printed by `python tests/support/walks.py`: 10 moves of its own."""
    of = walks.walks(tmp_path, network=False)
    assert len(walks.own(walks.moves(of["evaluate (cohort)"]))) <= 6
    assert len(walks.own(walks.moves(of["score_case (key)"]))) <= 5


def test_a_room_imports_from_the_face_of_another():
    """`from volseg.ROOM import Name`: the files below a room are its own affair; deploy has three rooms."""
    for module in MODULES.values():
        others = {target for target, _ in module.targets if target.split(".")[1:2] not in ([], [module.room])}
        deep = {target for target in others if target.count(".") > 1 and target.split(".")[1] != "deploy"}
        assert not deep, f"{module.name} imports {deep}"


def test_a_face_names_what_it_exports():
    for module in MODULES.values():
        if module.path.name != "__init__.py" or module.room in ("", "cli"):
            continue
        exported = {item.name for item in module.imports if item.module.startswith("volseg.")} - {None}
        told = {
            name.value
            for node in module.tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
            for name in node.value.elts
        }
        assert told == exported


@modules
def test_torch_and_monai_stay_in_their_rooms(module):
    if module.room in HEAVY_ROOMS:
        return
    assert not packages_of(module, top_only=True) & HEAVY
    # What a checkpoint says is read with torch, and all of MONAI loaded where a bundle needs it, inside a function.
    allowed = {"volseg.bundle.recipe": {"torch"}, "volseg.inference.lazy_monai": {"monai"}}
    assert packages_of(module) & HEAVY <= allowed.get(module.name, set())


@modules
def test_light_rooms_import_no_heavy_room_at_the_top(module):
    if module.room not in HEAVY_ROOMS:
        heavy = {
            target
            for target, top in module.targets
            if top and target.split(".")[1:2] and target.split(".")[1] in HEAVY_ROOMS - OPENED_AT_FIRST_USE
        }
        assert not heavy


@modules
def test_the_package_knows_no_script_no_test_and_no_bundle(module):
    assert not packages_of(module) & {"scripts", "tests", "bundles", "conftest", "pytest"}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in module.docstrings:
            shown = node.value.startswith("Example: ")  # of a command's help
            named = {name for name in BUNDLES if re.search(rf"\b{re.escape(name)}\b", node.value)}
            named -= FAMILIES if module.room == "networks" else set()
            assert shown or not named, f"line {node.lineno} names the bundle {named}"


@modules
def test_metrics_open_no_file(module):
    if module.room != "metrics":
        return
    assert not packages_of(module) & {"pathlib", "os", "io", "nibabel", "csv", "json", "PIL"}
    assert {target.split(".")[1] for target, _ in module.targets if "." in target} <= {"metrics", "errors"}
    opening = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "load", "save", "fromfile", "tofile"}
    assert not {name for name, _ in calls(module.tree)} & opening


@modules
def test_report_computes_no_metric(module):
    if module.room != "report":
        return
    for item in module.imports:
        if item.module.startswith("volseg.metrics"):
            assert item.name in WORDS, f"{item.module}.{item.name}"
    assert not packages_of(module) & {"scipy", "nibabel"}
    assert "read_volume" not in {name for name, _ in calls(module.tree)}


@modules
def test_ray_is_imported_only_inside_jobs(module):
    assert "ray" not in packages_of(module) or module.room == "jobs"


@modules
def test_transformers_is_loaded_only_by_the_network_that_needs_it(module):
    assert "transformers" not in packages_of(module, top_only=True)
    assert "transformers" not in packages_of(module) or module.room == "networks"


@modules
def test_errors_are_raised_and_logged_not_asserted_and_printed(module):
    assert not [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Assert)]
    assert not [node.lineno for name, node in calls(module.tree) if name == "print"]


@modules
def test_a_file_says_its_purpose(module):
    first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
    assert first[:1].strip()
    assert first[-1] in ".!?:"


@modules
def test_no_file_is_a_drawer_for_anything(module):
    drawers = {
        "utils",
        "util",
        "helpers",
        "helper",
        "constants",
        "base",
        "common",
        "misc",
        "tools",
        "config",
        "registry",
    }
    assert not set(module.name.split(".")) & drawers


@modules
def test_no_wrapper_around_what_monai_has(module):
    classes = {node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)}
    assert not classes & {"SwinUNETR", "UNETR", "UNet", "SegResNet", "DynUNet", "ConfigParser", "Registry"}


@modules
def test_a_function_changes_no_global(module):
    assert not [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Global)]


def loaded_by(statement):
    """The packages that a fresh interpreter holds after a statement, apart from those it starts with."""
    code = f"import sys; {statement}; import json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_the_command_line_starts_without_the_heavy_libraries():
    heavy = HEAVY | {"pandas", "scipy", "nibabel", "numpy", "PIL", "itk", "fire", "tensorboard", "matplotlib"}
    assert not loaded_by("import volseg.cli") & heavy


def test_the_light_rooms_load_no_torch():
    light = [name for name, module in MODULES.items() if module.room not in HEAVY_ROOMS]
    assert not loaded_by(f"import {', '.join(light)}") & (HEAVY | {"ray", "itk"})


def test_every_room_that_is_opened_at_first_use_is_there():
    rooms = {module.room for module in MODULES.values()} - {""}
    assert rooms >= volseg._ROOMS
