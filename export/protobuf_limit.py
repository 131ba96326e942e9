"""What one file of ONNX can hold: protobuf writes and reads no message of 2 GiB or more."""

from typing import Final

BYTES: Final = 2**31 - 1


def of(size: int) -> str:
    """What is told of something of so many bytes that is too large."""
    return f"{size / 1e9:.2f} GB are more than one ONNX file can hold ({BYTES / 1e9:.2f} GB)"
