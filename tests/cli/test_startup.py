"""Help comes at once: no --help of any command may load what takes long to import."""

from __future__ import annotations

import json
import subprocess
import sys

from typer.main import get_command

from volseg.cli import app

SLOW = {
    "torch",
    "monai",
    "ignite",
    "transformers",
    "pandas",
    "scipy",
    "nibabel",
    "numpy",
    "PIL",
    "itk",
    "pydicom",
    "ray",
}

ASK = """
import contextlib, io, json, sys
sys.argv = ["volseg"]
from volseg.cli import main
found = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    found.append([words, said.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})])
print(json.dumps(found))
"""


def commands(group, before=()):
    for name, command in group.commands.items():
        yield [*before, name]
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))


def test_no_help_loads_what_takes_long():
    asked = [[], *commands(get_command(app))]
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    for words, said, packages in json.loads(done.stdout):
        assert "Usage:" in said, words
        assert not set(packages) & SLOW, words


FAIL = """
import contextlib, json, sys
from volseg.cli import main
found = []
for words in json.load(sys.stdin):
    try:
        main(words)
    except SystemExit as end:
        found.append([words, end.code, "torch" in sys.modules])
print(json.dumps(found))
"""


def test_a_path_that_is_not_there_is_told_before_pytorch_is_loaded(tmp_path):
    asked = [
        ["train", "unet", "--dataset_dir", "nowhere"],
        ["crossval", "unet", "nowhere", "-o", "out"],
        ["adapt", "nowhere", "nowhere", "--patient", "case1"],
        ["calibrate", "nowhere", "nowhere"],
        ["predict", "unet", "nowhere", "-o", "out"],
        ["evaluate", "nowhere", "nowhere", "-o", "out"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", FAIL], input=json.dumps(asked), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    for words, code, loaded in json.loads(done.stdout.splitlines()[-1]):
        assert (code, loaded) == (2, False), words
    assert done.stderr.count("nowhere") >= len(asked)
