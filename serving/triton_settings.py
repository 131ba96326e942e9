"""How the gateway connects to Triton servers."""

from dataclasses import dataclass, field

import click

from serving.flags import flag


@dataclass(frozen=True, kw_only=True)
class TritonSettings:
    """Files by their paths, "" for none."""

    triton_use_ssl: bool = field(
        default=False, metadata=flag("Whether connections to --triton-url are encrypted.", bool)
    )
    triton_root_cert: str = field(
        default="",
        metadata=flag(
            "The certificates that vouch for the Triton servers, PEM; without it, those that gRPC "
            "brings.",
            str,
        ),
    )
    triton_client_cert: str = field(
        default="",
        metadata=flag("The certificate to show to Triton servers that ask for one, PEM.", str),
    )
    triton_client_key: str = field(
        default="", metadata=flag("The private key of --triton-client-cert, PEM.", str)
    )

    def __post_init__(self) -> None:
        for name in ("triton_root_cert", "triton_client_cert", "triton_client_key"):
            if getattr(self, name) and not self.triton_use_ssl:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is given, but connections to the Triton servers "
                    "would be plain: add --triton-use-ssl=true, or leave the file out."
                )
        if bool(self.triton_client_cert) != bool(self.triton_client_key):
            raise click.UsageError("--triton-client-cert and --triton-client-key need each other.")
