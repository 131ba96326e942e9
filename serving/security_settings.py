"""Who may call the server and how it is reached: TLS, keys, restrictions, limits of connections."""

from dataclasses import dataclass, field

import click

from serving.flags import FiniteRange, flag
from serving.restrictions import Restriction, RestrictionType, by_group


@dataclass(frozen=True, kw_only=True)
class SecuritySettings:
    """Files by their paths, "" for none; times in seconds."""

    http_use_ssl: bool = field(default=False, metadata=flag("Whether REST speaks TLS.", bool))
    http_use_ssl_mutual: bool = field(
        default=False,
        metadata=flag("Whether REST speaks TLS and takes clients with certificates only.", bool),
    )
    http_server_cert: str = field(
        default="", metadata=flag("REST's certificate and those that vouch for it, PEM.", str)
    )
    http_server_key: str = field(
        default="", metadata=flag("The private key of REST's certificate, PEM.", str)
    )
    http_root_cert: str = field(
        default="",
        metadata=flag("The certificates that vouch for REST's clients, PEM.", str),
    )
    grpc_use_ssl: bool = field(default=False, metadata=flag("Whether gRPC speaks TLS.", bool))
    grpc_use_ssl_mutual: bool = field(
        default=False,
        metadata=flag("Whether gRPC speaks TLS and takes clients with certificates only.", bool),
    )
    grpc_server_cert: str = field(
        default="", metadata=flag("gRPC's certificate and those that vouch for it, PEM.", str)
    )
    grpc_server_key: str = field(
        default="", metadata=flag("The private key of gRPC's certificate, PEM.", str)
    )
    grpc_root_cert: str = field(
        default="",
        metadata=flag("The certificates that vouch for gRPC's clients, PEM.", str),
    )
    api_keys_file: str = field(
        default="",
        metadata=flag(
            "A file of lines NAME KEY [RIGHTS], read anew when it changes: callers must have such "
            "a key, in the header Authorization: Bearer KEY. Rights are infer (the default), admin "
            "or groups as --http-restricted-api has them.",
            str,
        ),
    )
    http_restricted_api: tuple[Restriction, ...] = field(
        default=(),
        metadata=flag(
            "GROUP[,GROUP...]:KEY=VALUE: who calls such a part of REST must send that header; may "
            "be given several times.",
            RestrictionType("api"),
            multiple=True,
        ),
    )
    grpc_restricted_protocol: tuple[Restriction, ...] = field(
        default=(),
        metadata=flag(
            "The same for gRPC, where the header is triton-grpc-protocol-KEY.",
            RestrictionType("protocol"),
            multiple=True,
        ),
    )
    max_connections: int = field(
        default=4096,
        metadata=flag("Connections that each port takes at a time.", click.IntRange(1)),
    )
    max_inflight_bytes: int = field(
        default=1024 * 1024 * 1024,
        metadata=flag(
            "Bytes of large requests (from 64 KiB on) that are held at a time, over REST and gRPC "
            "together; further ones are refused with Retry-After. 0: no limit.",
            click.IntRange(0),
        ),
    )
    connection_idle_secs: float = field(
        default=75.0,
        metadata=flag(
            "How long a client may keep the server waiting, for its next request or for the rest "
            "of one, before its connection is closed.",
            FiniteRange(0, min_open=True),
        ),
    )

    def __post_init__(self) -> None:
        by_group(self.http_restricted_api, "api")
        by_group(self.grpc_restricted_protocol, "protocol")
