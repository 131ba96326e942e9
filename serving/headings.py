"""The headings under which a command's help lists its options."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

SETTINGS: Final[Mapping[str, Sequence[str]]] = {
    "Models": (
        *("model_repository", "model_repository_cache", "model_control_mode", "load_model"),
        *("repository_poll_secs", "model_load_thread_count", "model_load_retry_count"),
        *("disable_auto_complete_config", "strict_model_config", "backend_config"),
        "passport_policy",
    ),
    "Engine": ("engine", "device", "accelerator_build", "workers", "engines", "busy_poll_micros"),
    "Triton servers as the engine": (
        *("triton_url", "gateway_batching"),
        *("triton_use_ssl", "triton_root_cert", "triton_client_cert", "triton_client_key"),
    ),
    "Queues and cache": ("max_queue_size", "cache_config", "response_cache_byte_size"),
    "Network": (
        *("allow_http", "http_address", "http_port", "reuse_http_port"),
        *("allow_grpc", "grpc_address", "grpc_port", "reuse_grpc_port"),
        *("allow_metrics", "metrics_address", "metrics_port"),
        *("max_connections", "connection_idle_secs", "http_max_input_size", "max_inflight_bytes"),
        *("allow_client_shm", "map_client_shm", "triton_status_codes"),
    ),
    "gRPC": (
        *("grpc_implementation", "grpc_infer_response_compression_level"),
        *("grpc_keepalive_time", "grpc_keepalive_timeout", "grpc_keepalive_permit_without_calls"),
        "grpc_http2_max_pings_without_data",
        "grpc_http2_min_recv_ping_interval_without_data",
        "grpc_http2_max_ping_strikes",
        *("grpc_max_connection_age", "grpc_max_connection_age_grace"),
    ),
    "Security": (
        *("api_keys_file", "http_restricted_api", "grpc_restricted_protocol"),
        *("http_use_ssl", "http_use_ssl_mutual"),
        *("http_server_cert", "http_server_key", "http_root_cert"),
        *("grpc_use_ssl", "grpc_use_ssl_mutual"),
        *("grpc_server_cert", "grpc_server_key", "grpc_root_cert"),
    ),
    "Start and stop": (
        *("id", "exit_on_error", "strict_readiness"),
        *("exit_timeout_secs", "exit_grace_secs", "hang_timeout_secs"),
    ),
    "Metrics": (
        *("allow_cpu_metrics", "allow_gpu_metrics", "metrics_interval_ms", "metrics_config"),
        "load_objective_ms",
    ),
    "Logs": (*("log_file", "log_format", "log_verbose", "log_info", "log_warning", "log_error"),),
    "Traces": (
        *("trace_config", "trace_file", "trace_level", "trace_rate", "trace_count"),
        "trace_log_frequency",
    ),
}


class Headed(click.Command):
    """A command whose `headings` name the options below each; others come last, as Options."""

    def __init__(self, *args: Any, headings: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headings = headings

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading that has options here."""
        records = {
            option.name: option.get_help_record(ctx)
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
        }
        sections = {
            heading: [records.pop(name, None) for name in names]
            for heading, names in self._headings.items()
        }
        sections["Options"] = list(records.values())
        for heading, section in sections.items():
            if shown := [record for record in section if record]:
                with formatter.section(heading):
                    formatter.write_dl(shown)
