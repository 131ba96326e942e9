"""Requests of more rows than an execution takes: refused, as Triton has it, or split."""

from collections.abc import Iterator
from typing import Final

from serving.config.ensemble import is_ensemble
from serving.config.parameters import splits_large_requests
from serving.config.ragged import batch_outputs, ragged_inputs
from serving.config.source import Fault
from serving.config.text import Proto

_PATH: Final = 'parameters["split_large_requests"]'


def splitting_faults(proto: Proto) -> Iterator[Fault]:
    """Why the requests of a complete configuration cannot be split, if they are to be."""
    if not splits_large_requests(proto):
        return
    for is_so, reason in (
        (is_ensemble(proto), "it is an ensemble: set it for the models that it is made of"),
        (
            not is_ensemble(proto) and not proto.max_batch_size,
            "it does not batch, so that a request has no rows: give it a max_batch_size",
        ),
        (
            proto.HasField("sequence_batching"),
            "a request is one step of a sequence, and has one row",
        ),
        (
            proto.model_transaction_policy.decoupled,
            "it is decoupled, and may answer each part by any number of responses",
        ),
        (
            bool(ragged_inputs(proto) or proto.batch_input or batch_outputs(proto)),
            "its inputs or outputs are ragged, whose rows belong together",
        ),
    ):
        if is_so:
            yield Fault(_PATH, f"requests to model '{proto.name}' cannot be split: {reason}")
