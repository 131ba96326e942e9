"""A torch module as an ONNX graph, by torch's own exporter."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any, Final

import onnx
import torch
from google.protobuf.message import Message
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from export.errors import ConversionFailed

# A line of somebody's code, as tracebacks have it.
_PLACE: Final = re.compile(r'  File ".+", line \d+, in .+\n.+')


def convert(
    module: nn.Module,
    examples: tuple[Any, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
    opset: int,
    called: str,
) -> onnx.ModelProto:
    """The graph, without the exporter's notes. ConversionFailed says of what is `called` so why
    there is none."""
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=dynamic_shapes,
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # the exporter's, or whatever the module raises
        raise ConversionFailed(f"torch cannot export {called}: {_reason(error)}") from error
    if program is None:
        raise ConversionFailed(f"torch exported nothing for {called}")
    model = program.model_proto  # made anew each time that it is asked for
    _strip(model)
    return model


def _reason(error: Exception) -> str:
    """Without the exporter's advice on how to debug it."""
    reason = error.__cause__ or error
    if not isinstance(reason, GuardOnDataDependentSymNode):
        return str(reason)
    places = "\n".join(_PLACE.findall(str(reason)))
    return (
        "which way it goes on depends on values of its input, and a graph has but one way:\n"
        f"{places}\nSay it by torch.where or torch.cond"
    )


def _strip(message: Message) -> None:
    """Clears what the exporter notes beside the graph, such as stack traces with the paths of
    this machine."""
    for field, value in message.ListFields():
        if field.name in {"doc_string", "metadata_props"}:
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                _strip(part)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what the exporter says about itself, not about the model."""
    # It logs every operator of torchvision that it cannot offer where that is not installed, and
    # prints graphs that it has given up.
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            # Of checks that torch itself has deprecated, of weights that a recurrent layer keeps in
            # a list, ...: whether the graph is right is the gates' to say.
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
