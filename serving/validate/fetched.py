"""Repositories behind URLs as folders to check, and findings told by the URLs."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from serving.errors import LoadFailed
from serving.location import Location, Remote
from serving.validate.findings import Finding, ModelReport, Severity


class Fetched:
    """`repositories` as folders: `paths`; those behind URLs are fetched into the folder `cache`.

    `findings` is what is wrong with what could not be fetched.
    """

    def __init__(self, repositories: Sequence[Location], cache: Path) -> None:
        self.findings: list[Finding] = []
        self._urls: dict[Path, str] = {}
        # What keeps the folders there.
        self._copies: list[object] = []
        folders = [self._folder(location, cache) for location in dict.fromkeys(repositories)]
        self.paths = [folder for folder in folders if folder]

    def told(self, finding: Finding) -> Finding:
        """The finding by the URLs of what was fetched."""
        file, message = finding.file, finding.message
        for path, url in self._urls.items():
            file, message = (text.replace(str(path), url) for text in (file, message))
        return replace(finding, file=file, message=message)

    def report(self, model: ModelReport) -> ModelReport:
        """The report on a model by the URLs of what was fetched."""
        return replace(model, findings=tuple(map(self.told, model.findings)))

    def _folder(self, location: Location, cache: Path) -> Path | None:
        if isinstance(location, Path):
            return location
        try:
            return self._fetch(location, cache)
        except LoadFailed as error:
            message = error.message.removeprefix(f"{location}: ")
            self.findings.append(Finding(Severity.FAULT, str(location), message))
            return None

    def _fetch(self, remote: Remote, cache: Path) -> Path:
        # Imported here: whoever checks folders only need not have fsspec installed.
        from serving.storage.mirror import Mirror

        mirror = Mirror(remote, cache, partial(click.echo, err=True))
        mirror.models()  # which tells an empty repository from none at all
        tree, refused = mirror.copy()
        for name, reason in refused.items():
            message = f"cannot be a file: {reason}; rename the object"
            self.findings.append(Finding(Severity.FAULT, f"{remote}/{name}", message))
        self._copies.append(tree)
        self._urls[tree.path] = str(remote)
        return tree.path
