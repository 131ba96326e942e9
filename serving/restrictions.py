"""The groups of calls that access is granted and restricted by, under Triton's names.

A restriction is what `--http-restricted-api` and `--grpc-restricted-protocol` say, as
`GROUP[,GROUP...]:KEY=VALUE`: whoever calls one of the groups must send the header KEY with VALUE.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any

import click


@unique
class Group(Enum):
    """What a call concerns, over either protocol; the last group is ours, the others Triton's."""

    HEALTH = "health"
    METADATA = "metadata"
    INFERENCE = "inference"
    SHARED_MEMORY = "shared-memory"
    MODEL_CONFIG = "model-config"
    MODEL_REPOSITORY = "model-repository"
    STATISTICS = "statistics"
    TRACE = "trace"
    LOGGING = "logging"
    DOCUMENTATION = "documentation"


@dataclass(frozen=True, slots=True)
class Restriction:
    """What a call of these groups must bring; the value is a secret and not shown."""

    groups: tuple[Group, ...]
    key: str
    value: str = field(repr=False)


class RestrictionType(click.ParamType[Restriction]):
    """A flag's value that is a restriction; `noun` is what Triton calls a group there."""

    name = "groups:key=value"

    def __init__(self, noun: str) -> None:
        self._noun = noun

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Restriction:
        """The restriction that `value` says."""
        groups, _, pair = value.partition(":")
        key, _, secret = pair.partition("=")
        if not (groups and key and secret):
            self.fail("expected GROUP[,GROUP...]:KEY=VALUE, all of them not empty", param, ctx)
        known = {group.value: group for group in Group}
        names = groups.split(",")
        for name in names:
            if name not in known:
                self.fail(
                    f"unknown restricted {self._noun} '{name}'; expected one of: "
                    + ", ".join(known),
                    param,
                    ctx,
                )
        return Restriction(tuple(known[name] for name in names), key, secret)


def by_group(restrictions: Iterable[Restriction], noun: str) -> Mapping[Group, Restriction]:
    """The restriction of each group that has one; UsageError where a group has several."""
    found: dict[Group, Restriction] = {}
    for restriction in restrictions:
        for group in restriction.groups:
            if group in found:
                raise click.UsageError(
                    f"restricted {noun} '{group.value}' can not be specified in multiple config "
                    "groups"
                )
            found[group] = restriction
    return found
