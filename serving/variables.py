"""Finds variables of the environment that are meant for us and that nothing of ours reads."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Final

from serving.settings import ENVIRONMENT_PREFIX, Settings

# Those that are no settings of a server: of training, of the benchmarks, of the simulation.
OTHERS: Final = ("CACHE", "DATA", "ENVOY_ENV", "PEERS", "SIM_INSIDE", "TRITON_ENV")
# Kubernetes tells pods of each service by such variables, and one may be called penstock.
_OF_A_SERVICE: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_|_PORT=tcp:")


def unread(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence on each variable that bears our prefix and has no meaning."""
    known = [setting.name.upper() for setting in fields(Settings)] + [*OTHERS]
    for variable, value in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name in (variable, *known) or _OF_A_SERVICE.search(f"{variable}={value}"):
            continue
        nearest = get_close_matches(name, known, n=1)
        advice = f"; did you mean {ENVIRONMENT_PREFIX}{nearest[0]}?" if nearest else ""
        yield f"the variable {variable} is set, and nothing reads it{advice}"
