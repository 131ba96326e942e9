"""Values that nobody changes, at the price of those that anybody might.

A frozen dataclass sets each field through a check that forbids it; to make one of seven fields
costs six times what a plain one does. Some are made for every request. Of these, the type checker
alone sees to it that they stay as they are.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(kind: type[T]) -> type[T]:
    """`kind` as a dataclass with slots, frozen where types are checked and nowhere else."""
    return dataclass(slots=True)(kind)
