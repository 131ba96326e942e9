"""A stream's responses: `ModelStreamInferResponse` messages around answers, ends and errors."""

from typing import Any, Final

from tritonclient.grpc import service_pb2

from serving.types import InferenceResponse
from serving.wire import proto
from serving.wire.shared_memory import Places

# Says of each response whether it is its request's last.
_FINAL: Final = "triton_final_response"


def answer(response: InferenceResponse, places: Places, is_final: bool) -> Any:
    """One of the responses to a request, whose outputs go to `places` where they have one."""
    message = service_pb2.ModelStreamInferResponse(
        infer_response=proto.encode_infer(response, places)
    )
    return _marked(message, is_final)


def empty_final(request: Any) -> Any:
    """The end of the responses to a `ModelInferRequest`."""
    return _marked(_about(request), True)


def failure(request: Any, error: str) -> Any:
    """The end of a `ModelInferRequest` that failed; the stream goes on."""
    message = _about(request)
    message.error_message = error
    return _marked(message, True)


def _about(request: Any) -> Any:
    return service_pb2.ModelStreamInferResponse(
        infer_response=service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version, id=request.id
        )
    )


def _marked(message: Any, is_final: bool) -> Any:
    message.infer_response.parameters[_FINAL].bool_param = is_final
    return message
