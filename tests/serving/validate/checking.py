"""What `penstock validate` says, as its JSON report has it."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from serving.validate.command import validate

FAULT, WARNING = "fault", "warning"


def check(*arguments: object, passports: str = "off") -> tuple[int, dict[str, Any]]:
    """The exit code and the report."""
    given = [str(argument) for argument in arguments]
    policy = f"--passport-policy={passports}"
    result = CliRunner().invoke(validate, [*given, policy, "--format", "json"])
    return result.exit_code, json.loads(result.stdout)


def found(document: dict[str, Any], repository: Path) -> list[tuple[str, str, str]]:
    """Severity, place and message of each finding, the places as they are below `repository`."""
    findings = [*document["findings"], *(f for m in document["models"] for f in m["findings"])]
    return [
        (
            finding["severity"],
            ":".join(
                str(part)
                for part in (
                    Path(finding["file"]).relative_to(repository),
                    finding["line"],
                    finding["column"],
                )
                if part is not None
            ),
            finding["message"],
        )
        for finding in findings
    ]
