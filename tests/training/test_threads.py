"""Whoever trains or exports leaves the processor to others while threads wait for each other."""

import os
import subprocess
import sys

import pytest

# What torch would read when it is imported first.
READ = """
import importlib, os, sys

class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
            os._exit(0)

sys.meta_path.insert(0, Torch())
sys.stdout.reconfigure(line_buffering=True)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    "modules",
    [
        ["training.command", "training.loop"],
        ["training.compare_command", "training.compare"],
        ["training.latent"],
        ["export.command", "export.pipeline"],
        ["export.search.command", "export.search.run"],
        ["bench.training"],
    ],
)
def test_torch_is_told_before_it_is_imported(modules: list[str]) -> None:
    variables = {name: each for name, each in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", READ, *modules]
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert told.stdout == "PASSIVE\n"
