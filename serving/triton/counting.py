"""What goes through this gateway, counted for its metrics.

The servers count for themselves, whoever asks them; several gateways in front of them must not
each tell the same. An execution is a call to a server here, its network and its queue included.
"""

import time

from serving.errors import Code
from serving.metrics_settings import MetricsConfig
from serving.statistics import FailureReason, VersionStatistics
from serving.summaries import Summaries
from serving.types import InferenceRequest, InferenceResponse, Timing


class Counting:
    """A record for each version that has answered: names that are none must not make any."""

    def __init__(self, metrics: MetricsConfig) -> None:
        self._has_summaries = metrics.summary_latencies
        self._records: dict[str, dict[str, VersionStatistics]] = {}
        self._batches: dict[str, bool] = {}

    @property
    def all(self) -> list[VersionStatistics]:
        """The counters as they stand."""
        return [record for versions in self._records.values() for record in versions.values()]

    def knows(self, model: str) -> bool:
        """Whether it is known if the model batches."""
        return model in self._batches

    def learn(self, model: str, max_batch_size: int) -> None:
        """The model's requests have rows if `max_batch_size` is above 0."""
        self._batches[model] = max_batch_size > 0

    def rows(self, request: InferenceRequest) -> int:
        """How many rows a request has; 1 to a model that does not batch."""
        has_rows = self._batches.get(request.model, False) and request.inputs
        return request.inputs[0].array.shape[0] if has_rows else 1

    def answered(
        self, request: InferenceRequest, response: InferenceResponse, elapsed: int
    ) -> Timing:
        """Count a request that `response` answered after `elapsed` nanoseconds."""
        rows = self.rows(request)
        timing = Timing(0, 0, elapsed, 0, rows)
        record = self._record(response.model, response.version)
        record.record_execution(rows, timing)
        record.record_success(rows, elapsed, timing)
        return timing

    def executed(self, model: str, version: str, rows: int, timing: Timing) -> None:
        """Count a call with the rows of several requests."""
        self._record(model, version).record_execution(rows, timing)

    def gathered(
        self, request: InferenceRequest, response: InferenceResponse, elapsed: int, timing: Timing
    ) -> None:
        """Count a request that was answered from such a call, which is counted by itself."""
        rows = request.inputs[0].array.shape[0]
        self._record(response.model, response.version).record_success(rows, elapsed, timing)

    def queued(self, model: str, version: str, requests: int, wait: int) -> None:
        """Tell how many wait for a version that has answered ("": the latest to), and how long."""
        versions = self._records.get(model, {})
        record = versions.get(version) or next(reversed(versions.values()), None)
        if record is not None:
            record.pending, record.wait = requests, wait

    def failed(self, request: InferenceRequest, code: Code, elapsed: int) -> None:
        """Count a request that got an error after `elapsed` nanoseconds, if its model is known."""
        versions = self._records.get(request.model, {})
        record = versions.get(request.version) or next(reversed(versions.values()), None)
        if record is not None:
            record.record_failure(FailureReason.of(code), elapsed)

    def _record(self, model: str, version: str) -> VersionStatistics:
        versions = self._records.setdefault(model, {})
        if version not in versions:
            versions[version] = VersionStatistics(model, version)
            if self._has_summaries:
                versions[version].summaries = Summaries(time.monotonic_ns, False)
        return versions[version]
