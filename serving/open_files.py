"""The files that a server may have open, of which each connection is one."""

import logging
from dataclasses import replace
from typing import Final

from serving.settings import Settings

logger = logging.getLogger("penstock.server")

# What the process has open beside connections: models, libraries, logs.
_OTHER_FILES: Final = 256


def files_wanted(settings: Settings) -> int:
    """How many files the process has open when its ports have all connections they may have."""
    return _OTHER_FILES + settings.max_connections * _ports(settings)


def _ports(settings: Settings) -> int:
    """How many ports have as many connections as a port may have."""
    ports = settings.allow_http + settings.allow_grpc + settings.allow_metrics
    # As many connections again may be amid their handshakes.
    secured = sum(
        is_open and (tls or mutual_tls)
        for is_open, tls, mutual_tls in (
            (settings.allow_http, settings.http_use_ssl, settings.http_use_ssl_mutual),
            (settings.allow_grpc, settings.grpc_use_ssl, settings.grpc_use_ssl_mutual),
        )
    )
    return ports + secured


def allowed_files(settings: Settings) -> Settings:
    """Let the process have as many connections as the settings promise, as far as it may.

    Gives the settings that promise no more than that: beyond, idle connections would keep the
    files that new ones need, metrics and loads among them, and none would make room for another.
    """
    try:
        import resource
    except ImportError:
        return settings  # Windows has no such limit
    wanted = files_wanted(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < wanted:
        promised, ports = settings.max_connections, max(1, _ports(settings))
        # Where the limit is so low, half of it is for what is open beside connections.
        most = max(1, (hard - min(_OTHER_FILES, hard // 2)) // ports)
        settings = replace(settings, max_connections=most)
        logger.warning(
            "the process may open %d files, and --max-connections=%d wants %d: each port takes %d "
            "connections; raise `ulimit -n` for more",
            hard,
            promised,
            wanted,
            most,
        )
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return settings
