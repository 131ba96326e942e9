"""A long help is read by its headings."""

import re

import click
import pytest
from click.testing import CliRunner

from serving.bench.command import bench
from serving.command import serve


@pytest.mark.parametrize("command", [serve, bench], ids=["serve", "bench"])
def test_the_help_lists_every_option_once_and_all_but_its_own_below_a_heading(
    command: click.Command,
) -> None:
    told = CliRunner().invoke(command, ["--help"]).stdout
    sections = dict(re.findall(r"^(\S.*):\n((?:  .*\n)+)", told, re.MULTILINE))
    listed = re.findall(r"^  (--[\w-]+)", "".join(sections.values()), re.MULTILINE)
    wanted = [
        each.opts[0]
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden
    ]
    assert sorted(listed) == sorted(wanted)
    assert len(sections) > 3
    assert re.findall(r"-[\w-]+", sections["Options"]) == ["-h", "--help"]
