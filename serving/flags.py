"""What a field of the settings says of its flag."""

from collections.abc import Mapping
from typing import Any


def flag(help: str, type: Any, multiple: bool = False) -> Mapping[str, Any]:
    """The metadata of a setting's field; `type` is click's."""
    return {"help": help, "type": type, "multiple": multiple}
