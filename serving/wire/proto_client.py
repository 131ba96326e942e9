"""Inference over gRPC from the client's side: the core's types to messages, answers to the core's.

Contents travel raw in both directions: an array's bytes are copied into a message, never turned
into Python's numbers.
"""

from typing import Any, Final

from tritonclient.grpc import service_pb2

from serving.errors import Internal, InvalidArgument
from serving.types import (
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    Parameter,
    Tensor,
)
from serving.wire import raw_tensors
from serving.wire.fields import tensor_header
from serving.wire.proto import set_request_parameter

# Asked of a server: to be told of the end of a request on a stream, by an answer if need be.
_WANT_END: Final = "triton_enable_empty_final_response"
# Told by it: whether an answer is its request's last.
_IS_LAST: Final = "triton_final_response"


def encode_request(request: InferenceRequest, is_streamed: bool = False) -> Any:
    """The `ModelInferRequest` of a request; one that `is_streamed` asks to be told of its end."""
    message = service_pb2.ModelInferRequest(
        model_name=request.model, model_version=request.version, id=request.id
    )
    for name, value in request.parameters.items():
        if name != _WANT_END:
            set_request_parameter(message, name, value)
    if is_streamed:
        message.parameters[_WANT_END].bool_param = True
    for tensor in request.inputs:
        message.inputs.add(
            name=tensor.name, datatype=tensor.datatype.wire, shape=tensor.array.shape
        )
        message.raw_input_contents.append(bytes(raw_tensors.encode(tensor)))
    for output in request.outputs:
        item = message.outputs.add(name=output.name)
        if output.classification:
            item.parameters["classification"].int64_param = output.classification
    return message


def decode_response(message: Any) -> InferenceResponse:
    """The response in a `ModelInferResponse`, whose arrays look into its raw contents.

    Internal where it contradicts itself.
    """
    contents = message.raw_output_contents[:]
    if len(contents) != len(message.outputs):
        raise Internal(
            f"{message.model_name}: the server answered with {len(message.outputs)} outputs and "
            f"the contents of {len(contents)}"
        )
    parameters = {name: _value(each) for name, each in message.parameters.items()}
    is_last = parameters.pop(_IS_LAST, False)
    return InferenceResponse(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=parameters,
        outputs=tuple(
            _tensor(item, content, message.model_name)
            for item, content in zip(message.outputs, contents, strict=True)
        ),
        is_last=bool(is_last),
    )


def encode_load(model: str, override: LoadOverride) -> Any:
    """The `RepositoryModelLoadRequest` that loads a model as it is, or with what is given."""
    message = service_pb2.RepositoryModelLoadRequest(model_name=model)
    if override.config is not None:
        message.parameters["config"].string_param = override.config
    for path, content in override.files.items():
        message.parameters[f"file:{path}"].bytes_param = content
    return message


def encode_unload(model: str, dependents: bool) -> Any:
    """The `RepositoryModelUnloadRequest` for a model, with what it is made of if `dependents`."""
    message = service_pb2.RepositoryModelUnloadRequest(model_name=model)
    message.parameters["unload_dependents"].bool_param = dependents
    return message


def _value(message: Any) -> Parameter:
    value: Parameter = getattr(message, message.WhichOneof("parameter_choice") or "bool_param")
    return value


def _tensor(item: Any, content: bytes, model: str) -> Tensor:
    try:
        header = tensor_header(item.name, item.datatype, item.shape[:], item.name, ())
        array = raw_tensors.decode(content, header, model)
    except InvalidArgument as error:
        raise Internal(f"{model}: the server's answer is none: {error.message}") from None
    return Tensor(header.name, header.datatype, array)
