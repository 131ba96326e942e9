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
from google.protobuf.message import EncodeError, Message
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from export import protobuf_limit
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
    check_size(module, called)
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


def check_size(module: nn.Module, called: str) -> None:
    """ConversionFailed where the weights would not fit into one file, before minutes are spent."""
    # Sparse tensors do not tell, and are no weights that the exporter takes.
    held = (*module.parameters(), *module.buffers())
    size = sum(tensor.nbytes for tensor in held if tensor.layout is torch.strided)
    if size > protobuf_limit.BYTES:
        raise _too_large(called, f"its weights of {protobuf_limit.of(size)}")


def serialised(model: onnx.ModelProto, called: str) -> bytes:
    """The bytes of the file, the same ones for the same graph."""
    try:
        made = bytes(model.SerializeToString(deterministic=True))
    except (EncodeError, ValueError) as error:
        raise _too_large(called, "its graph is more than one ONNX file can hold") from error
    if len(made) > protobuf_limit.BYTES:  # some releases write what none reads
        raise _too_large(called, f"its graph of {protobuf_limit.of(len(made))}")
    return made


def _too_large(called: str, why: str) -> ConversionFailed:
    return ConversionFailed(
        f"{called}: {why}: have its weights in half precision, or export it by "
        "torch.onnx.export(..., external_data=True), which puts them beside the graph, and publish "
        "that by penstock import"
    )


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
