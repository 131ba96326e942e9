"""How ports are bound and gRPC's connections kept, by tritonserver's flags and defaults."""

from dataclasses import dataclass, field

import click

from serving.flags import flag


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """Times in milliseconds."""

    reuse_http_port: bool = field(
        default=False,
        metadata=flag("Whether other servers that say so too may listen on REST's port.", bool),
    )
    reuse_grpc_port: bool = field(
        default=False,
        metadata=flag("Whether other servers that say so too may listen on gRPC's port.", bool),
    )
    grpc_keepalive_time: int = field(
        default=7_200_000,
        metadata=flag(
            "Milliseconds after the last message to ask a client whether it is there.", int
        ),
    )
    grpc_keepalive_timeout: int = field(
        default=20_000, metadata=flag("Milliseconds to wait for its answer.", int)
    )
    grpc_keepalive_permit_without_calls: bool = field(
        default=False, metadata=flag("Whether to ask while there are no calls.", bool)
    )
    grpc_http2_max_pings_without_data: int = field(
        default=2,
        metadata=flag("Pings to send while there is nothing else to send; 0: any number.", int),
    )
    grpc_http2_min_recv_ping_interval_without_data: int = field(
        default=300_000,
        metadata=flag(
            "Milliseconds between the pings of a client while there is nothing else to send.", int
        ),
    )
    grpc_http2_max_ping_strikes: int = field(
        default=2,
        metadata=flag("Pings too many before a connection is closed; 0: any number.", int),
    )
    grpc_max_connection_age: int = field(
        default=0,
        metadata=flag(
            "Milliseconds a connection may live, so that clients find new servers; 0: for ever.",
            click.IntRange(0),
        ),
    )
    grpc_max_connection_age_grace: int = field(
        default=0,
        metadata=flag(
            "Milliseconds that its last calls may take beyond that; 0: for ever.", click.IntRange(0)
        ),
    )

    @property
    def grpc_channel_arguments(self) -> list[tuple[str, int]]:
        """gRPC's channel arguments that these settings come to."""
        ages = {
            "grpc.max_connection_age_ms": self.grpc_max_connection_age,
            "grpc.max_connection_age_grace_ms": self.grpc_max_connection_age_grace,
        }
        return [
            # Unless it is wished, a second server on the port must fail, not share the traffic.
            ("grpc.so_reuseport", int(self.reuse_grpc_port)),
            ("grpc.keepalive_time_ms", self.grpc_keepalive_time),
            ("grpc.keepalive_timeout_ms", self.grpc_keepalive_timeout),
            (
                "grpc.keepalive_permit_without_calls",
                int(self.grpc_keepalive_permit_without_calls),
            ),
            ("grpc.http2.max_pings_without_data", self.grpc_http2_max_pings_without_data),
            (
                "grpc.http2.min_ping_interval_without_data_ms",
                self.grpc_http2_min_recv_ping_interval_without_data,
            ),
            ("grpc.http2.max_ping_strikes", self.grpc_http2_max_ping_strikes),
            *((name, age) for name, age in ages.items() if age),
        ]
