"""Which ports there are, what answers on them, and what of clients they take."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import click

from serving.flags import flag

_PORT: Final = click.IntRange(0, 65535)


class CompressionLevel(Enum):
    """How hard gRPC tries to make responses smaller, by Triton's names."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class GrpcImplementation(Enum):
    """What answers on the gRPC port.

    `own` is made for many small calls; `grpcio` is the server of gRPC's own package, which takes
    several times as long for each.
    """

    OWN = "own"
    GRPCIO = "grpcio"


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Ports as tritonserver has them, and what goes over them; sizes in bytes."""

    http_address: str = field(
        default="0.0.0.0", metadata=flag("The address that REST listens on.", str)
    )
    http_port: int = field(
        default=8000, metadata=flag("The port of REST; 0 takes a free one.", _PORT)
    )
    grpc_address: str = field(
        default="0.0.0.0", metadata=flag("The address that gRPC listens on.", str)
    )
    grpc_port: int = field(
        default=8001, metadata=flag("The port of gRPC; 0 takes a free one.", _PORT)
    )
    metrics_address: str = field(
        default="",
        metadata=flag("The address that metrics listen on; REST's where none is named.", str),
    )
    metrics_port: int = field(
        default=8002, metadata=flag("The port of Prometheus metrics; 0 takes a free one.", _PORT)
    )
    allow_http: bool = field(default=True, metadata=flag("Whether to answer REST.", bool))
    allow_grpc: bool = field(default=True, metadata=flag("Whether to answer gRPC.", bool))
    allow_metrics: bool = field(default=True, metadata=flag("Whether to answer metrics.", bool))
    http_max_input_size: int = field(
        default=64 * 1024 * 1024,
        metadata=flag(
            "The largest request in bytes, over REST and over gRPC alike.",
            click.IntRange(1, 2**31 - 1),
        ),
    )
    triton_status_codes: bool = field(
        default=False,
        metadata=flag(
            "Whether failures bear Triton's own statuses where ours say more: 500 for malformed "
            "JSON rather than 400, 503 for a full queue rather than 429.",
            bool,
        ),
    )
    grpc_infer_response_compression_level: CompressionLevel = field(
        default=CompressionLevel.NONE,
        metadata=flag(
            "How hard to pack gRPC's responses, for clients that can unpack them.",
            click.Choice(CompressionLevel, case_sensitive=False),
        ),
    )
    grpc_implementation: GrpcImplementation = field(
        default=GrpcImplementation.OWN,
        metadata=flag(
            "What answers gRPC: our own server, or the one of grpcio, which is slower.",
            click.Choice(GrpcImplementation, case_sensitive=False),
        ),
    )
    allow_client_shm: bool = field(
        default=False,
        metadata=flag(
            "Whether clients on this machine may pass tensors in system shared memory. Whoever may "
            "ask then reads and writes every shared-memory object that the server's user can.",
            bool,
        ),
    )
    map_client_shm: bool = field(
        default=False,
        metadata=flag(
            "With --allow-client-shm, whether models read shared memory in its place, which is "
            "quick for large tensors, rather than a copy. For clients that are trusted: one that "
            "cuts its memory short amid a request ends the server.",
            bool,
        ),
    )

    def __post_init__(self) -> None:
        if self.map_client_shm and not self.allow_client_shm:
            raise click.UsageError("--map-client-shm is for --allow-client-shm=true.")
