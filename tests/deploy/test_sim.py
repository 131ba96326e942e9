"""Envoy in front of several replicas: its configuration, what is made of a run, and a short one."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import yaml

from bench.machine import Unavailable
from deploy.sim import capacity, envoy, figures, network, page, picture
from deploy.sim.load import GRPC, PATIENCE_SECONDS, REST, SAMPLES, Asked
from deploy.sim.replicas import GRACE_SECONDS
from deploy.sim.scenarios import SCENARIOS, Fault, Outcome
from serving.settings import Settings
from tests.e2e.server import penstock_server


@pytest.fixture(scope="module")
def configuration() -> Any:
    """What Envoy is given, parsed."""
    filled = envoy.values(network.Loopback(), Path("requests.jsonl"))
    return yaml.safe_load(envoy.configuration(filled))


@pytest.fixture(scope="module")
def clusters(configuration: Any) -> dict[str, Any]:
    return {each["name"]: each for each in configuration["static_resources"]["clusters"]}


@pytest.fixture(scope="module")
def routes(configuration: Any) -> list[Any]:
    """The routes of both listeners."""
    found = []
    for listener in configuration["static_resources"]["listeners"]:
        [manager] = listener["filter_chains"][0]["filters"]
        [host] = manager["typed_config"]["route_config"]["virtual_hosts"]
        found += host["routes"]
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_the_template_has_no_name_without_a_value() -> None:
    filled = envoy.values(network.Loopback(), Path("requests.jsonl"))

    assert "$" not in envoy.configuration(filled)
    with pytest.raises(KeyError, match="replica_2"):
        envoy.configuration({name: each for name, each in filled.items() if name != "replica_2"})


@pytest.mark.parametrize("protocol", envoy.CLUSTERS)
def test_each_protocol_has_every_replica(clusters: dict[str, Any], protocol: str) -> None:
    [group] = clusters[protocol]["load_assignment"]["endpoints"]
    found = [each["endpoint"] for each in group["lb_endpoints"]]

    sockets = [each["address"]["socket_address"] for each in found]
    assert [each["address"] for each in sockets] == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    probes = {each["health_check_config"]["port_value"] for each in found}
    assert len(probes) == 1
    assert probes.isdisjoint(each["port_value"] for each in sockets)


@pytest.mark.parametrize("protocol", envoy.CLUSTERS)
def test_each_protocol_is_guarded_in_every_way(clusters: dict[str, Any], protocol: str) -> None:
    cluster = clusters[protocol]

    [check] = cluster["health_checks"]
    assert check["http_health_check"] == {"path": "/v2/health/ready"}
    [policy] = cluster["load_balancing_policy"]["policies"]
    assert policy["typed_extension_config"]["name"].endswith("least_request")
    assert cluster["outlier_detection"]["consecutive_local_origin_failure"] > 0
    # What a replica answers, overload and failing models among it, leaves nobody out.
    assert cluster["outlier_detection"]["enforcing_consecutive_5xx"] == 0
    assert cluster["outlier_detection"]["enforcing_consecutive_gateway_failure"] == 0
    # The last of three is asked alone; when none is left, all are.
    assert 0 < cluster["common_lb_config"]["healthy_panic_threshold"]["value"] < 100 / 3
    [limits] = cluster["circuit_breakers"]["thresholds"]
    assert limits.keys() == {
        *("max_connections", "max_requests", "max_pending_requests", "retry_budget")
    }


def test_a_server_that_stops_answers_on_until_envoy_must_have_noticed(
    clusters: dict[str, Any],
) -> None:
    [check] = clusters["rest"]["health_checks"]

    assert seconds(check["interval"]) + seconds(check["timeout"]) < GRACE_SECONDS


def test_a_replica_that_stands_still_keeps_its_calls_until_it_is_left_out(
    clusters: dict[str, Any],
) -> None:
    [check] = clusters["grpc"]["health_checks"]
    [options] = clusters["grpc"]["typed_extension_protocol_options"].values()
    protocol = options["explicit_http_config"]["http2_protocol_options"]

    silence = check["unhealthy_threshold"] * seconds(check["timeout"]) + seconds(check["interval"])
    assert seconds(protocol["connection_keepalive"]["timeout"]) >= silence


def test_only_what_no_replica_executed_is_tried_again_unasked(routes: list[Any]) -> None:
    unasked = [each for each in routes if "headers" not in each["match"]]

    assert len(unasked) == 4
    for each in unasked:
        tried = set(each["route"]["retry_policy"]["retry_on"].split(","))
        assert tried == {"connect-failure", "refused-stream", "reset-before-request"}
        assert "hedge_policy" not in each["route"]
        assert each["route"]["retry_policy"]["retry_host_predicate"]


def test_who_asks_for_a_hedge_gets_one_in_time(routes: list[Any]) -> None:
    asked = [each["route"] for each in routes if "headers" in each["match"]]

    assert len(asked) == 2
    for each in asked:
        assert each["hedge_policy"] == {"hedge_on_per_try_timeout": True}
        policy = each["retry_policy"]
        assert policy["num_retries"] * seconds(policy["per_try_timeout"]) < seconds(each["timeout"])


def test_every_answer_has_a_limit_but_streams(routes: list[Any]) -> None:
    for each in routes:
        is_stream = "prefix" not in each["match"]
        limit = seconds(each["route"]["timeout"])
        assert (limit == 0) == is_stream
        assert limit < PATIENCE_SECONDS


def test_envoy_closes_idle_connections_before_the_server_does(clusters: dict[str, Any]) -> None:
    [options] = clusters["rest"]["typed_extension_protocol_options"].values()

    idle = seconds(options["common_http_protocol_options"]["idle_timeout"])
    assert idle < Settings().connection_idle_secs


def test_the_admin_port_is_for_this_machine_only(configuration: Any) -> None:
    assert configuration["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_a_replica_is_healthy_if_both_clusters_say_so() -> None:
    def host(address: str, **amiss: bool) -> dict[str, Any]:
        socket = {"socket_address": {"address": address}}
        return {"address": socket, "health_status": {"eds_health_status": "HEALTHY"} | amiss}

    rest = {"host_statuses": [host("a"), host("b"), host("c", failed_active_health_check=True)]}
    grpc = {"host_statuses": [host("a"), host("b", failed_outlier_check=True), host("c")]}

    found = envoy.healthy({"cluster_statuses": [rest, grpc]}, ["a", "b", "c"])

    assert found == [True, False, False]


def test_without_a_wire_there_is_no_partition() -> None:
    with pytest.raises(network.NoWire, match="no wire to pull"):
        network.Loopback().cut(0)


FAULT: Final = Fault(1, began=10, silent=12, ejected=12, over=16, returned=17)


def asked(due: float, over: float, failure: str = "", name: str = REST) -> Asked:
    return Asked(f"{name}-{due}", name, due, over, failure)


def entry(replica: int, flags: str = "-", attempts: int = 1) -> dict[str, Any]:
    return {"replica": replica, "flags": flags, "attempts": attempts}


@pytest.mark.parametrize(
    ("due", "over", "phase"),
    [
        (9.0, 9.9, "before"),
        (9.0, 10.0, "fault"),
        (15.9, 18.0, "fault"),
        (16.0, 16.1, "return"),
        (17.0, 17.1, "after"),
    ],
)
def test_a_request_belongs_to_what_it_overlaps_with(due: float, over: float, phase: str) -> None:
    assert figures.phase(asked(due, over), [FAULT]) == phase


@pytest.mark.parametrize(
    ("due", "over", "replica", "excused"),
    [
        pytest.param(9.9, 13.0, 1, True, id="in hand as it fell silent"),
        pytest.param(11.9, 15.0, 1, True, id="sent before Envoy knew"),
        pytest.param(12.1, 15.0, 1, False, id="sent to who was left out"),
        pytest.param(9.0, 9.9, 1, False, id="over before anything happened"),
        pytest.param(9.9, 13.0, 0, False, id="at another replica"),
    ],
)
def test_only_what_a_silent_replica_had_in_hand_may_fail(
    due: float, over: float, replica: int, excused: bool
) -> None:
    failed = asked(due, over, "failed")

    assert figures.excused(failed, entry(replica), [FAULT]) is excused


def test_a_failure_without_a_trace_at_envoy_is_never_excused() -> None:
    assert not figures.excused(asked(9.9, 13, "failed"), None, [FAULT])


def outcome(name: str) -> Outcome:
    """A request of a millisecond before, a failed one in the fault, one tried again after."""
    made = [asked(1, 1.001), asked(9.9, 13, "lost", GRPC), asked(18, 18.003)]
    entries = (entry(0), entry(1, "UT"), entry(2, attempts=2))
    logged = {each.id: found for each, found in zip(made, entries, strict=True)}
    return Outcome(name, 0.0, [FAULT], made, logged)


def test_a_run_comes_to_counts_times_and_latencies() -> None:
    found = figures.of(outcome("frozen"))

    assert found.asked == {REST: 2, GRPC: 1}
    assert found.failed == {REST: 0, GRPC: 1}
    assert found.reasons == {"no answer in time": 1}
    assert found.tried_again == 1
    assert found.shares == [0.333, 0.333, 0.333]
    assert found.phases["before"] == figures.Phase(1, 0, 1.0, 1.0)
    assert found.phases["fault"] == figures.Phase(1, 1, None, None)
    assert found.phases["after"] == figures.Phase(1, 0, 3.0, 3.0)
    assert found.times == [figures.Times(1, eject=2, back=1)]
    assert found.kept


def test_where_hedges_were_asked_for_nothing_may_fail() -> None:
    found = figures.of(outcome("frozen, hedged"))

    assert found.unexplained == 1
    assert not found.kept


def test_a_picture_has_a_panel_for_each_scenario() -> None:
    assert picture.draw([outcome("frozen"), outcome("killed")]).startswith(b"\x89PNG")


SIMPLE: Final = replace(
    capacity.Assumptions(), utilisation=0.5, zones=3, peak_to_mean=2, framing=1, envoy_cores=8
)
DEMAND: Final = capacity.Demand("small", 1000, 100, bytes_there=900, bytes_back=100)


def test_with_a_zone_lost_the_rest_carries_the_peak_at_the_wanted_utilisation() -> None:
    found = capacity.plan(DEMAND, 100_000, SIMPLE)

    # 100 cores' work, each half busy, in any two of three zones.
    assert found.replica_cores == 300
    assert found.replica_cores * 2 / 3 * 0.5 * 1e6 / DEMAND.replica_us == 100_000
    assert found.envoy_cores == 30
    assert found.envoys == 6


def test_even_little_load_has_a_replica_and_an_envoy_in_each_zone() -> None:
    found = capacity.plan(DEMAND, 1, SIMPLE)

    assert (found.replica_cores, found.envoys, found.gpus) == (3, 3, 0)


def test_gpus_are_counted_as_processors_are_and_each_has_one() -> None:
    found = capacity.plan(replace(DEMAND, gpu=0.01), 1000, SIMPLE)

    assert found.gpus == 30
    assert found.replica_cores == 30


def test_a_plan_costs_its_machines_and_what_goes_between_zones() -> None:
    assumed = replace(SIMPLE, vcpu_hour=1, gpu_hour=10, zone_gigabyte=0.03)
    found = capacity.plan(replace(DEMAND, gpu=0.01), 1000, assumed)

    mean = 1000 / 2 * 3600
    traffic = mean * 1000 / 1e9 * 2 / 3 * 2 * 0.03
    assert found.hour == pytest.approx(30 + 3 + 300 + traffic)
    assert found.million == pytest.approx(found.hour / mean * 1e6)
    assert found.gigabits == pytest.approx(900 * 1000 * 8 / 1e9)


def test_an_assumption_is_changed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.arguments(["--set", "gpu_images=2500"]).assumed.gpu_images == 2500
    with pytest.raises(SystemExit):
        capacity.arguments(["--set", "gpu_pictures=2500"])
    assert "gpu_pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--set", "zones=1", "zones cannot be 1: of two or more one may be lost"),
        ("--set", "zones=2.5", "zones cannot be 2.5"),
        ("--set", "utilisation=0", "utilisation cannot be 0"),
        ("--set", "utilisation=50", "utilisation is a share"),
        ("--set", "vcpu_hour=nan", "vcpu_hour cannot be nan"),
        ("--rate", "0", "0 is no finite number above 0"),
        ("--rate", "inf", "inf is no finite number above 0"),
    ],
)
def test_what_no_plan_can_be_made_of_is_wrong_usage(
    flag: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        capacity.main([flag, value])
    assert told in capsys.readouterr().err


def test_what_costs_nothing_may_be_assumed() -> None:
    capacity.main(["--set", "zone_gigabyte=0", "vcpu_hour=0"])


SAVED: Final = json.loads(capacity.MEASURED.read_text())


def test_the_page_says_what_was_saved() -> None:
    shown = page.PAGE.read_text()

    assert shown == page.written(shown, SAVED), "bring it up to date: python -m deploy.sim.page"


def test_every_promise_was_kept_when_it_was_saved() -> None:
    assert SAVED["absent"] == {}
    assert [each["name"] for each in SAVED["scenarios"] if each["kept"]] == [*SCENARIOS]


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- figures -->"):
        page.written("# Scale", SAVED)


class OneReplica(network.Loopback):
    """A network in which the first replica is where a server of the tests is."""

    def __init__(self, http: str, grpc: str, metrics: str) -> None:
        super().__init__()
        ports = [int(address.rpartition(":")[2]) for address in (http, grpc, metrics)]
        self._ports = dict(zip(network.PROTOCOLS, ports, strict=True))

    def place(self, replica: int) -> tuple[str, dict[str, int]]:
        return f"127.0.0.{1 + replica}", self._ports


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[envoy.Envoy]:
    """A real Envoy in front of one server, and of two places where there is none."""
    try:
        envoy.program()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with ExitStack() as stack:
        server = stack.enter_context(
            penstock_server("--model-control-mode=explicit", "--load-model=mnist-cnn")
        )
        wires = OneReplica(server.http, server.grpc, server.metrics)
        yield stack.enter_context(envoy.running(wires, tmp_path_factory.mktemp("envoy")))


def test_envoy_accepts_the_configuration(proxy: envoy.Envoy, tmp_path: Path) -> None:
    config = tmp_path / "envoy.yaml"
    config.write_text(envoy.configuration(envoy.values(network.Loopback(), tmp_path / "log")))

    done = subprocess.run(
        [envoy.program(), "--mode", "validate", "--config-path", config],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc])
def test_requests_go_to_the_replica_that_is_there(proxy: envoy.Envoy, module: Any) -> None:
    deadline = time.monotonic() + 60
    while proxy.healthy() != [True, False, False]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    address = proxy.rest if module is tritonclient.http else proxy.grpc
    with np.load(SAMPLES) as file:
        image, expected = file["image"][:1], file["probabilities"][:1]
    tensor = module.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)

    with module.InferenceServerClient(address) as client:
        answer = client.infer("mnist-cnn", [tensor], headers={"x-request-id": address})

    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-3)
    while not (found := [each for each in proxy.entries() if each["id"] == address]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found[0]["replica"] == 0
