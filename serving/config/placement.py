"""Where each session of a resolved configuration executes, and which instances share it."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tritonclient.grpc import model_config_pb2

from serving.config.accelerators import SET, cuda_options, tensorrt_options
from serving.config.parameters import runtime_options
from serving.config.source import Fault
from serving.config.text import Proto
from serving.devices import Gpus

# What executes ONNX models; the others compute in Python.
ON_GPUS: Final = ("onnxruntime", "generation")

# Beyond that a mistyped count would take all memory before it is noticed.
_MOST_INSTANCES: Final = 1024

_Group: Final[Any] = model_config_pb2.ModelInstanceGroup


@dataclass(frozen=True, slots=True)
class Placement:
    """On the CPU, or on the GPU that CUDA numbers `gpu`.

    `cuda` and `tensorrt` are options of ONNX Runtime's providers by their own names; `tensorrt` is
    None where CUDA alone is asked for.
    """

    gpu: int | None = None
    cuda: Mapping[str, str] = field(default_factory=dict)
    tensorrt: Mapping[str, str] | None = None

    @property
    def records_graphs(self) -> bool:
        """Whether the launches of kernels are recorded and replayed, as CUDA graphs."""
        return SET in (
            self.cuda.get("enable_cuda_graph"),
            (self.tensorrt or {}).get("trt_cuda_graph_enable"),
        )

    @property
    def accelerator(self) -> str:
        """What has to be built, for minutes, before it executes there; "" for nothing."""
        return "" if self.tensorrt is None else "TensorRT"

    @property
    def plain(self) -> "Placement":
        """The same place without the accelerator."""
        return replace(self, tensorrt=None)

    def __str__(self) -> str:
        if self.gpu is None:
            return "the CPU"
        return f"GPU {self.gpu}" if self.tensorrt is None else f"GPU {self.gpu} by TensorRT"


CPU: Final = Placement()


class _Seat(NamedTuple):
    """The instances of one group on one device; `gpu` None is the CPU."""

    gpu: int | None
    instances: int


def instance_sessions(proto: Proto) -> list[int]:
    """For each instance, which session it executes on: its own, or its group's on its device.

    Those of passive groups do not run at all.
    """
    seats = _seats(proto)
    if runtime_options(proto).share_session:
        return [index for index, seat in enumerate(seats) for _ in range(seat.instances)]
    return list(range(sum(seat.instances for seat in seats)))


def placements(proto: Proto) -> list[Placement]:
    """Where each session executes, in the order in which `instance_sessions` counts them."""
    shared = runtime_options(proto).share_session
    return [
        placement
        for seat, placement in _placed(proto)
        for _ in range(1 if shared else seat.instances)
    ]


def place(proto: Proto, gpus: Gpus) -> None:
    """Say of each instance group where it executes: KIND_AUTO is a GPU where there is one.

    As Triton has it, an instance group has its count of instances on each of its GPUs.
    """
    for group in proto.instance_group:
        if group.kind == _Group.KIND_AUTO:
            usable = proto.backend in ON_GPUS and gpus.ids and set(group.gpus) <= set(gpus.ids)
            group.kind = _Group.KIND_GPU if usable else _Group.KIND_CPU
        if group.kind == _Group.KIND_GPU and not group.gpus:
            group.gpus.extend(gpus.ids)
    if gpus.tensorrt and any(group.kind == _Group.KIND_GPU for group in proto.instance_group):
        accelerators = proto.optimization.execution_accelerators.gpu_execution_accelerator
        if not accelerators:
            accelerators.add(name="tensorrt")


def within(proto: Proto, gpus: Gpus) -> Proto:
    """The same configuration with those instances only that this process has, perhaps none.

    To be asked of one that `place` has seen. What is on the CPU is in every process.
    """
    if gpus.own is None:
        return proto
    own = deepcopy(proto)
    del own.instance_group[:]
    for group in proto.instance_group:
        here = [gpu for gpu in group.gpus if gpu in gpus.own]
        if here or not group.gpus:
            added = own.instance_group.add()
            added.CopyFrom(group)
            added.gpus[:] = here
    return own


def recording_faults(proto: Proto) -> Iterator[Fault]:
    """What CUDA graphs, which are of fixed addresses and of one thread, do not go together with."""
    recording = [placement for _, placement in _placed(proto) if placement.records_graphs]
    if not recording:
        return
    options, path = runtime_options(proto), "optimization.execution_accelerators"
    if options.share_session:
        yield Fault(
            path,
            "CUDA graphs need a session for each instance: leave out the one or "
            "share_session_between_instances",
        )
    if {f"gpu:{each.gpu}" for each in recording} & set(options.arena_shrinkage):
        yield Fault(
            path,
            "CUDA graphs keep their memory where it is: leave out the one or the "
            f"arena's shrinkage of {', '.join(options.arena_shrinkage)}",
        )


def instance_faults(proto: Proto, gpus: Gpus) -> Iterator[Fault]:
    """What Triton refuses in the instance groups of a configuration that `place` has seen."""
    instances = sum(group.count for group in proto.instance_group)
    if instances > _MOST_INSTANCES:
        yield Fault(
            "instance_group",
            f"{instances} instances are asked for, each with memory of its own: write at most "
            f"{_MOST_INSTANCES}",
        )
    for index, group in enumerate(proto.instance_group):
        path, named = f"instance_group[{index}]", f"instance group {group.name} of model "
        kind = _Group.Kind.Name(group.kind) if group.kind in _Group.Kind.values() else ""
        if group.kind == _Group.KIND_GPU:
            yield from _gpu_faults(proto, group, path, gpus)
        elif group.gpus:
            yield Fault(
                f"{path}.gpus",
                f"{named}{proto.name} has kind {kind} but specifies one or more GPUs: leave them "
                f"out, or write KIND_GPU (GPUs here: {gpus})",
            )


def _gpu_faults(proto: Proto, group: Any, path: str, gpus: Gpus) -> Iterator[Fault]:
    named = f"instance group {group.name} of model {proto.name}"
    if proto.backend not in ON_GPUS:
        yield Fault(
            f"{path}.kind",
            f"{named} has kind KIND_GPU but the backend '{proto.backend}' computes on the CPU: "
            "write KIND_CPU",
        )
    elif not gpus.ids:
        yield Fault(
            f"{path}.kind",
            f"{named} has kind KIND_GPU but no GPUs are available ({gpus.missing}): write "
            "KIND_CPU, or KIND_AUTO which takes a GPU where there is one",
        )
    else:
        for place, gpu in enumerate(group.gpus):
            if gpu not in gpus.ids:
                yield Fault(
                    f"{path}.gpus[{place}]",
                    f"{named} specifies invalid or unsupported gpu id {gpu}. GPUs that may be used "
                    f"are: {', '.join(map(str, gpus.ids))}",
                )


def _placed(proto: Proto) -> list[tuple[_Seat, Placement]]:
    """The seats, however many instances each has, and where they are."""
    cuda, tensorrt = cuda_options(proto), tensorrt_options(proto)
    return [
        (seat, CPU if seat.gpu is None else Placement(seat.gpu, cuda, tensorrt))
        for seat in _seats(proto)
    ]


def _seats(proto: Proto) -> list[_Seat]:
    return [
        _Seat(gpu, group.count)
        for group in proto.instance_group
        if not group.passive
        for gpu in (group.gpus if group.kind == _Group.KIND_GPU else (None,))
    ]
