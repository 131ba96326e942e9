"""The model's `config.pbtxt`, which Penstock's own server and Triton read alike."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tritonclient.grpc import model_config_pb2

from export.errors import Incompatible
from serving import passport
from serving.config import Proto, parse, to_text
from serving.dtypes import from_wire
from serving.errors import LoadFailed
from training.spec import Signature, TensorField

FILENAME: Final = "config.pbtxt"
LABELS: Final = passport.LABELS
MODEL: Final = "model.onnx"
BACKEND: Final = "onnxruntime"
GENERATION: Final = "generation"  # the backend of language models
MAX_TOKENS: Final = 4096  # that a request may ask for
PLATFORM: Final = "onnxruntime_onnx"

# Where a row costs least on a CPU, by measurement; larger batches only answer later. No queue
# delay goes with them: batches fill while the model is busy, and an idle one need not wait.
PREFERRED_BATCH_SIZES: Final = (16, 32)

HEADER: Final = """\
# Written by `penstock export`, read by `penstock serve` and by Triton; yours to edit. Later
# exports keep this file, and refuse a model that does not fit it.
"""


# By task, what `/predict` shall make of the outputs; class scores are told by their name.
SCORES: Final = ("logits", "probabilities")  # outputs with a value for each label
PREDICTIONS: Final = {
    "reconstruction": "image",
    "decoding": "image",
    "generation": "image",
    "forecast": "forecast",
    "translation": "translation",
}


def build(
    name: str,
    signature: Signature,
    max_batch_size: int,
    task: str = "classification",
    columns: Sequence[str] = (),
) -> Proto:
    """`columns` names the places along the last dimension of the input; none where it is empty."""
    if task == "language":
        return _generation(name, max_batch_size)
    config = model_config_pb2.ModelConfig(
        name=name,
        platform=PLATFORM,
        backend=BACKEND,
        default_model_filename=MODEL,
        max_batch_size=max_batch_size,
    )
    for field in signature.inputs:
        added = config.input.add(name=field.name, data_type=_type(field), dims=field.shape)
        if len(field.shape) == 3:  # an image: channels, height, width
            added.format = model_config_pb2.ModelInput.FORMAT_NCHW
    for field in signature.outputs:
        config.output.add(
            name=field.name,
            data_type=_type(field),
            dims=field.shape,
            label_filename=LABELS if field.name in SCORES else "",
        )
    if max_batch_size > 1:
        batching = config.dynamic_batching
        batching.preferred_batch_size.extend(
            size for size in PREFERRED_BATCH_SIZES if size <= max_batch_size
        )
    if any(from_wire(field.datatype).is_float for field in signature.inputs):
        config.parameters["reject_non_finite_inputs"].string_value = "true"
    if task in PREDICTIONS:
        config.parameters["prediction"].string_value = PREDICTIONS[task]
    if task == "generation":  # the input may be left to chance
        config.parameters["latent"].string_value = "normal"
    if columns:
        config.parameters["columns"].string_value = ",".join(columns)
    return config


def _generation(name: str, max_batch_size: int) -> Proto:
    """Of a language model clients see a text and what follows it, and no step of the graph."""
    config = model_config_pb2.ModelConfig(
        name=name,
        backend=GENERATION,
        default_model_filename=MODEL,
        max_batch_size=max_batch_size,
    )
    text = model_config_pb2.TYPE_STRING
    config.input.add(name="text_input", data_type=text, dims=[1])
    config.input.add(name="stop", data_type=text, dims=[-1], optional=True)
    config.output.add(name="text_output", data_type=text, dims=[1])
    config.model_transaction_policy.decoupled = True
    config.parameters["generation_max_tokens"].string_value = str(MAX_TOKENS)
    return config


def render(config: Proto) -> str:
    return HEADER + to_text(config)


def read(path: Path) -> Proto | None:
    """The configuration in `path`, None where there is no such file. Incompatible if it cannot be
    read, since no model behind such a file could be served."""
    try:
        return parse(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return None
    except LoadFailed as error:
        raise Incompatible(error.message) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Incompatible(f"{path}: cannot be read as a model configuration: {error}") from error


def stated_rows(path: Path) -> int | None:
    """The max_batch_size of the configuration in `path`; None where there is no such file."""
    existing = read(path)
    return None if existing is None else int(existing.max_batch_size)


def differences(existing: Proto, wanted: Proto) -> list[str]:
    """Why a model that needs `wanted` cannot be served by `existing`; empty if it can.

    What is a matter of taste, such as delays, instances and warm-up, may differ.
    """
    faults = []
    for name in ("name", "platform", "backend", "default_model_filename", "max_batch_size"):
        found, expected = getattr(existing, name), getattr(wanted, name)
        if found not in (expected, ""):  # a text that is left out is implied
            faults.append(f"{name} is {found!r}, but this model needs {expected!r}")
    for kind in ("input", "output"):
        if getattr(existing, kind):  # with none listed, a server takes them from the graph
            faults += _tensors(kind, getattr(existing, kind), getattr(wanted, kind))
    return faults


def _tensors(kind: str, existing: Iterable[Any], wanted: Iterable[Any]) -> list[str]:
    found = {tensor.name: _describe(tensor) for tensor in existing}
    expected = {tensor.name: _describe(tensor) for tensor in wanted}
    return [
        f"{kind} {name} is {found.get(name, 'not there')}, "
        f"but this model has {expected.get(name, 'none of that name')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


def _describe(tensor: Any) -> str:
    return f"{model_config_pb2.DataType.Name(tensor.data_type)} {list(tensor.dims)}"


def _type(field: TensorField) -> str:
    return from_wire(field.datatype).config
