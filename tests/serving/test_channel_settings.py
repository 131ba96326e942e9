"""tritonserver's flags of gRPC's channels, as gRPC names them."""

import pytest

from serving.channel_settings import ChannelSettings

DEFAULTS = {
    "grpc.so_reuseport": 0,
    "grpc.keepalive_time_ms": 7_200_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.http2.max_pings_without_data": 2,
    "grpc.http2.min_ping_interval_without_data_ms": 300_000,
    "grpc.http2.max_ping_strikes": 2,
}


def test_without_flags_they_are_tritons() -> None:
    assert dict(ChannelSettings().grpc_channel_arguments) == DEFAULTS


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        (ChannelSettings(reuse_grpc_port=True), ("grpc.so_reuseport", 1)),
        (ChannelSettings(grpc_keepalive_time=5), ("grpc.keepalive_time_ms", 5)),
        (ChannelSettings(grpc_keepalive_timeout=5), ("grpc.keepalive_timeout_ms", 5)),
        (
            ChannelSettings(grpc_keepalive_permit_without_calls=True),
            ("grpc.keepalive_permit_without_calls", 1),
        ),
        (
            ChannelSettings(grpc_http2_max_pings_without_data=5),
            ("grpc.http2.max_pings_without_data", 5),
        ),
        (
            ChannelSettings(grpc_http2_min_recv_ping_interval_without_data=5),
            ("grpc.http2.min_ping_interval_without_data_ms", 5),
        ),
        (ChannelSettings(grpc_http2_max_ping_strikes=5), ("grpc.http2.max_ping_strikes", 5)),
        (ChannelSettings(grpc_max_connection_age=5), ("grpc.max_connection_age_ms", 5)),
        (ChannelSettings(grpc_max_connection_age_grace=5), ("grpc.max_connection_age_grace_ms", 5)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_each_flag_is_an_argument(settings: ChannelSettings, argument: tuple[str, int]) -> None:
    found = dict(settings.grpc_channel_arguments)
    assert found == DEFAULTS | dict([argument])
