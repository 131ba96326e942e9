"""Batch policies in one line."""

from dataclasses import fields
from typing import Any

from serving.types import BatchPolicy, QueuePolicy

_OF_THE_QUEUE = {field.name for field in fields(QueuePolicy)}


def policy(max_rows: int = 8, max_queue: int = 1000, **rest: Any) -> BatchPolicy:
    """`rest` are fields of the policy or of its queue's."""
    queue = {name: rest.pop(name) for name in _OF_THE_QUEUE & rest.keys()}
    return BatchPolicy(max_rows, QueuePolicy(max_queue, **queue), **rest)
