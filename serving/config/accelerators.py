"""What a configuration asks of ONNX Runtime's providers for GPUs, by Triton's names.

Triton's ONNX Runtime backend documents the parameters; the names on the right are the providers'
own. The sentences before the cure are Triton's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from serving.config.parameters import accelerator_tolerance
from serving.config.source import Fault
from serving.config.text import Proto, did_you_mean

# The text for the provider, of the text in the configuration; ValueError says what was expected.
Reader: TypeAlias = Callable[[str], str]

_PATH: Final = "optimization.execution_accelerators"
_KNOWN: Final = {
    "gpu_execution_accelerator": ("tensorrt", "cuda"),
    "cpu_execution_accelerator": ("openvino",),
}
# Of FP32, CUDA and TensorRT keep the 11 bits of TF32 unless they are told not to; half floats have
# as many, also in between the operators, and BF16 has 8. What 8-bit integers round, no bits tell.
_TF32: Final = 1e-2
_TOLERANCES: Final = {"trt_int8_enable": 1e-1, "trt_bf16_enable": 5e-2, "trt_fp16_enable": 2e-2}
_TRUE: Final = ("true", "on", "1")
_FALSE: Final = ("false", "off", "0")
# A flag of either provider: CUDA's takes 1 as well, TensorRT's nothing but these words.
SET: Final = "True"
_UNSET: Final = "False"
# Beyond that the provider's own reading of a number fails, without its name.
_INTEGERS: Final = range(-(2**31), 2**31)


def tensorrt_options(proto: Proto) -> dict[str, str] | None:
    """The options of TensorRT's provider by its own names; None where nobody asks for it."""
    for accelerator in _of_gpus(proto, "tensorrt"):
        return dict(_tensorrt(accelerator.parameters))
    return None


def tolerance(proto: Proto) -> float:
    """How much an accelerator's answers may differ: as the model says, or as its precision does."""
    said = accelerator_tolerance(proto)
    if said is not None:
        return said
    options = tensorrt_options(proto) or {}
    return next((t for option, t in _TOLERANCES.items() if options.get(option) == SET), _TF32)


def cuda_options(proto: Proto) -> dict[str, str]:
    """The options of CUDA's provider by its own names; what is not said is left to it.

    Triton's older way, `parameters` of the model itself, goes before those of the accelerator.
    """
    options: dict[str, str] = {}
    for accelerator in _of_gpus(proto, "cuda"):
        options |= {name: _CUDA[name](text) for name, text in accelerator.parameters.items()}
    for name in _OLDER:
        if name in proto.parameters:
            options[name] = _CUDA[name](proto.parameters[name].string_value)
    return options


def accelerator_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with the execution accelerators, whether there is a GPU for them or not."""
    accelerators = proto.optimization.execution_accelerators
    for kind, known in _KNOWN.items():
        for index, accelerator in enumerate(getattr(accelerators, kind)):
            path = f"{_PATH}.{kind}[{index}]"
            if accelerator.name not in known:
                yield Fault(
                    f"{path}.name",
                    f"unknown Execution Accelerator '{accelerator.name}' is requested: write "
                    f"{' or '.join(known)}",
                )
            elif accelerator.name == "openvino" and accelerator.parameters:
                yield Fault(f"{path}.parameters", "openvino takes no parameters")
            elif kind == "gpu_execution_accelerator":
                yield from _faults(accelerator, path)
    yield from _older_faults(proto)


def _of_gpus(proto: Proto, name: str) -> Iterable[Any]:
    all_of_them = proto.optimization.execution_accelerators.gpu_execution_accelerator
    return (accelerator for accelerator in all_of_them if accelerator.name == name)


def _tensorrt(parameters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in parameters.items():
        if name == "precision_mode":
            yield from ((option, SET) for option in _PRECISIONS[text])
        else:
            parameter = _TENSORRT[name]
            yield parameter.option, parameter.read(text)


def _faults(accelerator: Any, path: str) -> Iterator[Fault]:
    for name, text in accelerator.parameters.items():
        place = f'{path}.parameters["{name}"]'
        if accelerator.name == "tensorrt" and name == "precision_mode":
            if text not in _PRECISIONS:
                yield Fault(
                    place,
                    f"unsupported precision mode '{text}' is requested: write one of "
                    f"{', '.join(_PRECISIONS)}",
                )
            continue
        readers = _CUDA if accelerator.name == "cuda" else _TENSORRT_READERS
        if name not in readers:
            provider = "CUDA" if accelerator.name == "cuda" else "TensorRT"
            yield Fault(
                place,
                f"unknown parameter '{name}' is provided for {provider} Execution Accelerator"
                f"{did_you_mean(name, readers)}",
            )
        elif reason := _reason(readers[name], text):
            yield Fault(place, f"parameter '{name}' is {text!r}, expected {reason}")


def _older_faults(proto: Proto) -> Iterator[Fault]:
    for name in _OLDER:
        if name in proto.parameters:
            text = proto.parameters[name].string_value
            if reason := _reason(_CUDA[name], text):
                message = f"unsupported {name} value '{text}' is requested: expected {reason}"
                yield Fault(f'parameters["{name}"]', message)


def _reason(read: Reader, text: str) -> str:
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""


def _flag(text: str) -> str:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError("true or false")
    return SET if text.lower() in _TRUE else _UNSET


def _number(text: str) -> str:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and int(text) in _INTEGERS):
        raise ValueError("a whole number of 32 bits")
    return text


def _size(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**64):
        raise ValueError("a number of bytes above 0")
    return text


def _text(text: str) -> str:
    if not text:
        raise ValueError("a text")
    return text


def _choice(*names: str) -> Reader:
    """One of `names`, or its place among them as Triton's older parameters count."""
    by_text = {name.lower(): name for name in names}
    by_text |= {str(index): name for index, name in enumerate(names)}

    def read(text: str) -> str:
        if text.lower() not in by_text:
            raise ValueError(" or ".join(f"{index} ({name})" for index, name in enumerate(names)))
        return by_text[text.lower()]

    return read


class _Parameter(NamedTuple):
    """The provider's option that a parameter of the accelerator `tensorrt` stands for."""

    option: str
    read: Reader


_PRECISIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "FP32": (),
    "FP16": ("trt_fp16_enable",),
    "BF16": ("trt_bf16_enable",),
    "INT8": ("trt_int8_enable",),
}

# Those whose names differ from the provider's, and all others, which begin with trt_ on both sides.
_TENSORRT: Final[Mapping[str, _Parameter]] = {
    "max_workspace_size_bytes": _Parameter("trt_max_workspace_size", _size),
    "int8_calibration_table_name": _Parameter("trt_int8_calibration_table_name", _text),
    "int8_use_native_calibration_table": _Parameter("trt_int8_use_native_calibration_table", _flag),
} | {
    name: _Parameter(name, read)
    for read, names in (
        (
            _flag,
            "trt_dla_enable trt_engine_cache_enable trt_dump_subgraphs "
            "trt_force_sequential_engine_build trt_context_memory_sharing_enable "
            "trt_layer_norm_fp32_fallback trt_timing_cache_enable trt_force_timing_cache "
            "trt_detailed_build_log trt_build_heuristics_enable trt_sparsity_enable "
            "trt_cuda_graph_enable trt_dump_ep_context_model",
        ),
        (
            _number,
            "trt_max_partition_iterations trt_min_subgraph_size trt_dla_core "
            "trt_builder_optimization_level trt_auxiliary_streams trt_ep_context_embed_mode",
        ),
        (
            _text,
            "trt_engine_cache_path trt_engine_cache_prefix trt_timing_cache_path "
            "trt_tactic_sources trt_extra_plugin_lib_paths trt_profile_min_shapes "
            "trt_profile_max_shapes trt_profile_opt_shapes trt_ep_context_file_path",
        ),
    )
    for name in names.split()
}
_TENSORRT_READERS: Final = {
    "precision_mode": _text,
    **{name: parameter.read for name, parameter in _TENSORRT.items()},
}

# Which device, and by which stream and allocator, is no business of a configuration.
_CUDA: Final[Mapping[str, Reader]] = {
    "gpu_mem_limit": _size,
    "arena_extend_strategy": _choice("kNextPowerOfTwo", "kSameAsRequested"),
    "cudnn_conv_algo_search": _choice("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "tunable_op_max_tuning_duration_ms": _number,
    "sdpa_kernel": _number,
} | dict.fromkeys(
    (
        "do_copy_in_default_stream",
        "use_ep_level_unified_stream",
        "cudnn_conv_use_max_workspace",
        "cudnn_conv1d_pad_to_nc1d",
        "enable_cuda_graph",
        "enable_skip_layer_norm_strict_mode",
        "tunable_op_enable",
        "tunable_op_tuning_enable",
        "prefer_nhwc",
        "use_tf32",
        "fuse_conv_bias",
    ),
    _flag,
)
_OLDER: Final = (
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
)
