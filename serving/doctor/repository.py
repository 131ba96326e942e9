"""Whether the models of the settings are fit to be served, by the checks of `penstock validate`."""

from collections.abc import Iterator

from serving.devices import Wish
from serving.doctor.findings import Finding, fault, good, warning
from serving.engine_settings import EngineKind
from serving.settings import Settings
from serving.validate.findings import Report, Verdict
from serving.validate.text import summary


def repository(settings: Settings) -> Iterator[Finding]:
    """One finding for all repositories: what is wrong in detail is `penstock validate`'s to say."""
    if settings.engine is EngineKind.TRITON:
        return  # the servers' business
    names = " ".join(map(str, settings.model_repository))
    try:
        report = _checked(settings)
    except ImportError:
        yield warning("repository", f"{names}: not checked", "that needs ONNX Runtime, see above")
        return
    count = len(report.models)
    found = f"{names}: {count} model{'' if count == 1 else 's'}, {summary(report.all())}"
    if report.verdict is Verdict.GOOD:
        yield good("repository", found)
    else:
        judge = fault if report.verdict is Verdict.FAULTS else warning
        yield judge("repository", found, f"`penstock validate {names}` names each, with its cure")


def _checked(settings: Settings) -> Report:
    # Imported here: what else is checked needs no runtime.
    from serving.engine.backends.gpus import find_gpus
    from serving.engine.loading import default_backends
    from serving.validate.check import Check
    from serving.validate.fetched import Fetched

    fetched = Fetched(settings.model_repository, settings.model_repository_cache)
    check = Check(
        fetched.paths,
        default_backends(),
        settings.passport_policy,
        run=False,
        gpus=find_gpus(Wish()),
    )
    models = tuple(check.models())
    return Report(models, (*fetched.findings, *check.findings))
