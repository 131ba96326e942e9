"""A session of ONNX Runtime: arrays in, arrays out, in the types that numpy holds."""

import ctypes
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving import dtypes
from serving.config import traits
from serving.dtypes import Datatype
from serving.engine.backends.ort_errors import explain
from serving.engine.backends.runtime import CPU
from serving.errors import Internal, InvalidArgument, LoadFailed
from serving.types import Array, Signature, TensorSpec, shown

_IMPORT: Final = (
    "penstock import makes tensors of such maps, or convert the model without ZipMap "
    "(options={'zipmap': False}, or zipmap=False)"
)
_BFLOAT16: Final = 16  # onnx.TensorProto.BFLOAT16


class OrtSession:
    """One ONNX Runtime session; `run` may be called by several threads at a time."""

    def __init__(self, runtime: Any, session: Any, path: Path, run_options: Any = None) -> None:
        self._runtime = runtime
        self._session = session
        self._run_options = run_options
        try:
            self._signature, self._symbols = _described(session, path)
        except UnicodeDecodeError as error:  # the runtime takes any bytes for a name
            raise LoadFailed(f"{path}: {explain(str(error), path)}") from error
        self._inputs = {spec.name: spec.datatype for spec in self._signature.inputs}
        self._outputs = {spec.name: spec.datatype for spec in self._signature.outputs}
        self._steady = (
            session.get_providers() == [CPU]
            and all(size >= 0 for spec in self._signature.inputs for size in spec.dims[1:])
            and not traits(path).loops
        )
        given, returned = set(self._inputs.values()), set(self._outputs.values())
        self._plain = not (given | returned) & {Datatype.BYTES, Datatype.BF16}
        # What numpy has no type for comes out of the runtime as a value of its own only.
        self._by_value = Datatype.BF16 in returned
        if self._by_value and Datatype.BYTES in given:
            raise LoadFailed(
                f"{path}: ONNX Runtime cannot be given texts where it returns BF16; export the "
                "model with FP32 outputs"
            )

    @property
    def signature(self) -> Signature:
        """The graph's own inputs and outputs."""
        return self._signature

    @property
    def steady(self) -> bool:
        """Whether nothing but the number of rows changes from run to run."""
        return self._steady

    @property
    def symbols(self) -> Mapping[str, tuple[str, ...]]:
        """What the graph calls each dimension of each tensor; "" where it has no name for it."""
        return self._symbols

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute one batch; raises Internal with the runtime's own words."""
        try:
            if self._plain:
                feed = {name: _aligned(array) for name, array in inputs.items()}
                arrays: list[Array] = self._session.run(outputs, feed, self._run_options)
                return arrays
            return self._run_converted(inputs, outputs)
        except Exception as error:  # the runtime raises a class of its own per status code
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Internal:
        """What a run that fails so raises."""
        return Internal(f"onnx runtime error: {error}")

    def _run_converted(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """As `run`, for the types that numpy and the runtime hold differently."""
        feed = {name: self._to_runtime(name, array) for name, array in inputs.items()}
        if self._by_value:
            values = {
                name: self._runtime.OrtValue.ortvalue_from_numpy(item)
                if isinstance(item, np.ndarray)
                else item
                for name, item in feed.items()
            }
            results = self._session.run_with_ort_values(outputs, values, self._run_options)
        else:
            results = self._session.run(outputs, feed, self._run_options)
        return [
            _from_runtime(result, self._outputs[name])
            for name, result in zip(outputs, results, strict=True)
        ]

    def _to_runtime(self, name: str, array: Array) -> Any:
        match self._inputs[name]:
            case Datatype.BYTES:
                return _mapped(array, bytes.decode)
            case Datatype.BF16:
                make = self._runtime.OrtValue.ortvalue_from_numpy_with_onnx_type
                return make(_aligned(array), _BFLOAT16)
            case _:
                return _aligned(array)

    def close(self) -> None:
        """Release the runtime's session."""
        self._session = None


class HostSession(OrtSession):
    """One whose runs, on the CPU alone, can be ended between two nodes of the graph."""

    def __init__(
        self,
        runtime: Any,
        session: Any,
        path: Path,
        run_options: Any = None,
        fails_on_nothing: Collection[bytes] = (),
    ) -> None:
        """Where there are operators that `fails_on_nothing` names, the runtime must not be given an
        input without elements."""
        super().__init__(runtime, session, path, run_options or runtime.RunOptions())
        self._fails_on_nothing = ", ".join(sorted(map(bytes.decode, fails_on_nothing)))
        self._is_stopped = False

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute one batch; raises Internal with the runtime's own words, and InvalidArgument for
        what would end the process."""
        if self._fails_on_nothing:
            _refuse_nothing(inputs, self._fails_on_nothing)
        if self._is_stopped:  # the run before this one
            self._is_stopped = False
            self._run_options.terminate = False
        return super().run(inputs, outputs)

    def stop(self) -> None:
        """Have the run that is under way fail early; for any thread."""
        # In this order, and that of `run`, none is left stopped that nobody takes back.
        self._run_options.terminate = True
        self._is_stopped = True


def _refuse_nothing(inputs: Mapping[str, Array], operators: str) -> None:
    for name, array in inputs.items():
        if not array.size:
            raise InvalidArgument(
                f"input '{name}' has the shape {shown(array.shape)} and so no elements, of which "
                f"operators of the model make nothing: {operators}"
            )


def _aligned(array: Array) -> Array:
    """`array`, or a copy where it is a view into a request's body at an odd address."""
    flags = array.flags
    if flags.aligned and flags.c_contiguous:
        return array
    return array.copy(order="C")


def _mapped(texts: Array, convert: Callable[[Any], Any]) -> Array:
    """An array of objects: `convert` of each element of `texts`."""
    converted = np.empty(texts.shape, dtype=object)
    converted.reshape(-1)[:] = [convert(text) for text in texts.reshape(-1)]
    return converted


def _from_runtime(result: Any, datatype: Datatype) -> Array:
    """What the runtime returned for an output, an array or a value of its own, as an array."""
    if datatype is Datatype.BF16:
        words = ctypes.string_at(result.data_ptr(), result.tensor_size_in_bytes())
        return np.frombuffer(words, np.uint16).reshape(result.shape())
    array: Array = result if isinstance(result, np.ndarray) else result.numpy()
    return _mapped(array, str.encode) if datatype is Datatype.BYTES else array


def _described(session: Any, path: Path) -> tuple[Signature, dict[str, tuple[str, ...]]]:
    """The graph's inputs and outputs, and what it calls each of their dimensions."""
    optional = session.get_overridable_initializers()
    signature = Signature(
        inputs=(
            *(_spec(node, path) for node in session.get_inputs()),
            *(_spec(node, path, optional=True) for node in optional),
        ),
        outputs=tuple(_spec(node, path) for node in session.get_outputs()),
        deadly=traits(path).deadly,
    )
    symbols = {
        node.name: tuple(dim if isinstance(dim, str) else "" for dim in node.shape)
        for node in (*session.get_inputs(), *optional, *session.get_outputs())
    }
    return signature, symbols


def _spec(node: Any, path: Path, optional: bool = False) -> TensorSpec:
    datatype = dtypes.from_onnx(node.type)
    if datatype is None:
        # Of maps by class, as converters of classifiers make them.
        cure = _IMPORT if node.type.startswith("seq(map(") else dtypes.cure(node.type)
        raise LoadFailed(
            f"{path}: '{node.name}' is of type {node.type}, which the protocol cannot carry; {cure}"
        )
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return TensorSpec(node.name, datatype, dims, optional)
