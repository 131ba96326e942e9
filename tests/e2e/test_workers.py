"""A server of several processes is one server, also when one of them is killed."""

import os
import re
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Final

import grpc
import httpx
import pytest
import tritonclient.grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.e2e.repositories import add_identity
from tests.e2e.scrape import pending, scrape
from tests.e2e.server import STOPPING, Server, failed_start, penstock_server

WORKERS: Final = ("worker 1", "worker 2")
FLAGS: Final = (
    "--workers=2",
    "--model-control-mode=explicit",
    "--load-model=*",
    "--allow-client-shm=true",
)
# So many connections do not all come to the same of two workers, but once in half a million times.
CONNECTIONS: Final = 20
BODY: Final = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
LOST: Final = "lost"


# As many requests as there are connections make a batch; fewer wait for the rest for so long.
GATHERING: Final = """\
dynamic_batching {{
  preferred_batch_size: {rows} max_queue_delay_microseconds: {microseconds}
}}
"""


def add_models(repository: Path, seconds: int) -> None:
    add_identity(repository)
    add_identity(repository, "spare")
    more = GATHERING.format(rows=CONNECTIONS, microseconds=seconds * 1_000_000)
    add_identity(repository, "gathering", max_batch_size=2 * CONNECTIONS, more=more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    add_models(repository, seconds=600)
    with penstock_server(*FLAGS, repository=repository) as running:
        yield running


def connection(server: Server) -> httpx.Client:
    # Loading the certificates of the world, which nobody asks for, takes longer than the tests.
    return httpx.Client(base_url=server.url, timeout=60, verify=False, trust_env=False)


@contextmanager
def connections(server: Server) -> Iterator[list[httpx.Client]]:
    """Clients with a connection each, of which every worker has some."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connection(server)) for _ in range(CONNECTIONS)]
        for client in clients:
            assert client.get("/v2/health/live").status_code == 200
        yield clients


def infer(client: httpx.Client, model: str = "echo") -> str:
    """What comes of a request: the status, or that the connection was lost."""
    try:
        return str(client.post(f"/v2/models/{model}/infer", json=BODY).status_code)
    except httpx.TransportError:
        return LOST


@contextmanager
def in_hand(server: Server) -> Iterator[list["Future[str]"]]:
    """What will come of requests that the engine has, from all workers; one is missing to a batch.

    Unless they were answered already.
    """
    with connections(server) as clients, ThreadPoolExecutor(CONNECTIONS) as pool:
        outcomes = [pool.submit(infer, client, "gathering") for client in clients[1:]]
        while waiting(server) < len(outcomes) and not any(each.done() for each in outcomes):
            pass
        yield outcomes


def waiting(server: Server) -> float:
    return pending(server, "gathering")


def complete(server: Server, missing: int) -> set[str]:
    """What comes of the requests that were missing to the batch."""
    with connections(server) as clients, ThreadPoolExecutor(CONNECTIONS) as pool:
        return set(pool.map(infer, clients[:missing], ["gathering"] * missing))


def succeeded(server: Server) -> float:
    return scrape(server).value("nv_inference_request_success", model="echo", version="1")


def processes(server: Server) -> dict[str, int]:
    """The ids of the processes that were started last, by name."""
    lines = (re.search(r"the (engine|worker \d) is process (\d+)", line) for line in server.log)
    return {found[1]: int(found[2]) for found in lines if found}


def kill(server: Server, *names: str, by: int = signal.SIGKILL) -> None:
    """Kill these processes; returns once others have been started in their stead."""
    ids = processes(server)
    for name in names:
        os.kill(ids[name], by)
    while any(processes(server)[name] == ids[name] for name in names):
        pass


def test_there_are_as_many_as_the_processors_are_enough_for(tmp_path: Path) -> None:
    add_identity(tmp_path)
    with penstock_server(repository=tmp_path, processors=5) as server:
        assert processes(server).keys() == {"engine", "worker 1", "worker 2"}
        with connections(server) as clients:
            assert set(map(infer, clients)) == {"200"}


@pytest.mark.parametrize("said", [[], ["--workers=auto"]], ids=["nothing", "auto"])
def test_one_process_does_what_several_cannot_unless_they_are_asked_for(
    tmp_path: Path, said: list[str]
) -> None:
    add_identity(tmp_path)
    flag = f"--trace-config=triton,file={tmp_path / 'trace.json'}"
    with penstock_server(flag, *said, repository=tmp_path, processors=8) as server:
        assert processes(server) == {}
        with connection(server) as client:
            assert infer(client) == "200"
    told = failed_start(flag, "--workers=4", repository=tmp_path)
    assert "workers cannot write to one file" in told
    assert "--workers=0" in told


def again(server: Server) -> set[str]:
    """What comes of requests until one is answered, on new connections."""
    outcomes = []
    while "200" not in outcomes:
        with connection(server) as client:
            outcomes.append(infer(client))
    return set(outcomes)


def until_ready(server: Server) -> None:
    while again(server) != {"200"}:
        pass


def is_running(process: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        # What nobody has waited for yet is there as well, as a zombie.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_statistics_and_metrics_are_one_whichever_worker_is_asked(server: Server) -> None:
    before = succeeded(server)
    with connections(server) as clients:
        assert {infer(client) for client in clients} == {"200"}
        told = [client.get("/v2/models/echo/stats").json() for client in clients]
    counts = {each["model_stats"][0]["inference_stats"]["success"]["count"] for each in told}
    assert counts == {before + CONNECTIONS} == {succeeded(server)}


def test_requests_over_several_workers_share_batches(server: Server) -> None:
    with in_hand(server) as outcomes:
        assert complete(server, 1) == {"200"}
    assert {outcome.result() for outcome in outcomes} == {"200"}
    with connection(server) as client:
        [told] = client.get("/v2/models/gathering/stats").json()["model_stats"]
    assert [each["batch_size"] for each in told["batch_stats"]] == [CONNECTIONS]


def test_a_load_and_an_unload_hold_for_all_workers_at_once(server: Server) -> None:
    with connections(server) as clients:
        for change, status in (("unload", 400), ("load", 200)):
            assert clients[0].post(f"/v2/repository/models/spare/{change}").status_code == 200
            told = {client.get("/v2/models/spare/ready").status_code for client in clients}
            assert told == {status}


def test_settings_of_logs_hold_for_all_workers_and_their_successors(server: Server) -> None:
    with connections(server) as clients:
        clients[0].post("/v2/logging", json={"log_format": "json"}).raise_for_status()
        assert {client.get("/v2/logging").json()["log_format"] for client in clients} == {"json"}
    kill(server, "worker 1")
    with connections(server) as clients:
        assert {client.get("/v2/logging").json()["log_format"] for client in clients} == {"json"}
        clients[0].post("/v2/logging", json={"log_format": "default"}).raise_for_status()


@pytest.mark.parametrize("killed", ["worker 2", "engine"])
def test_regions_of_shared_memory_are_known_to_all_workers(server: Server, killed: str) -> None:
    memory = SharedMemory(create=True, size=4)
    path = "/v2/systemsharedmemory/region/mine"
    region = {"key": memory.name, "offset": 0, "byte_size": 4}
    parameters = {"shared_memory_region": "mine", "shared_memory_byte_size": 4}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "parameters": parameters}
    try:
        with connections(server) as clients:
            clients[0].post(f"{path}/register", json=region).raise_for_status()
            again = clients[-1].post(f"{path}/register", json=region)
            assert again.json() == {"error": "shared memory region 'mine' already in manager"}
        kill(server, killed)
        until_ready(server)
        with connections(server) as clients:
            answers = [
                client.post("/v2/models/echo/infer", json={"inputs": [tensor]})
                for client in clients
            ]
            assert {answer.status_code for answer in answers} == {200}
            clients[0].post(f"{path}/unregister").raise_for_status()
            assert {client.get(f"{path}/status").status_code for client in clients} == {404}
    finally:
        memory.close()
        memory.unlink()


def test_errors_say_over_both_protocols_what_one_process_says(server: Server) -> None:
    said = "Request for unknown model: 'nobody' is not found"
    with connection(server) as http:
        answer = http.get("/v2/models/nobody")
    assert (answer.status_code, answer.json()["error"]) == (404, said)
    with (
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException) as caught,
    ):
        client.get_model_metadata("nobody")
    assert (caught.value.status(), caught.value.message()) == ("StatusCode.NOT_FOUND", said)


def test_with_a_killed_worker_only_its_own_requests_are_lost(server: Server) -> None:
    with in_hand(server) as outcomes:
        kill(server, "worker 1")
        assert again(server) == {"200"}
        # The engine has dropped what nobody waits for any more.
        while waiting(server) == len(outcomes):
            pass
        assert complete(server, CONNECTIONS - int(waiting(server))) == {"200"}
    assert {outcome.result() for outcome in outcomes} == {LOST, "200"}


def test_killed_workers_are_replaced(server: Server) -> None:
    before = succeeded(server)
    kill(server, *WORKERS)
    assert again(server) <= {LOST, "200"}
    assert succeeded(server) == before + 1


def test_a_process_that_died_of_a_signal_without_a_name_is_replaced(server: Server) -> None:
    kill(server, "worker 1", by=40)
    server.wait_for(r"the worker 1 \(process \d+\) ended: signal 40; starting another")


def test_a_killed_engine_is_replaced_with_all_that_clients_have_made_of_it(server: Server) -> None:
    with connection(server) as client:
        client.post("/v2/repository/models/spare/unload").raise_for_status()
        before = succeeded(server)
        with in_hand(server) as outcomes:
            kill(server, "engine")
            assert {outcome.result() for outcome in outcomes} == {"503"}
        assert again(server) <= {"503", "200"}
        assert client.get("/v2/models/spare/ready").status_code == 400
        client.post("/v2/repository/models/spare/load").raise_for_status()
        assert client.get("/v2/models/spare/ready").status_code == 200
    assert succeeded(server) == before + 1


def test_an_engine_that_cannot_write_counts_down_says_so_answers_and_tries_again(
    server: Server,
) -> None:
    engine = processes(server)["engine"]
    before = succeeded(server)
    limits = resource.prlimit(engine, resource.RLIMIT_FSIZE)
    resource.prlimit(engine, resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        with connection(server) as client:
            assert infer(client) == "200"
            assert succeeded(server) == before + 1
            client.post("/v2/repository/models/spare/load").raise_for_status()
        server.wait_for("cannot write down what was counted: File too large")
        server.wait_for("cannot write down which models are loaded: File too large")
    finally:
        resource.prlimit(engine, resource.RLIMIT_FSIZE, limits)
    # By itself: nobody asks for statistics.
    server.wait_for("can write down what was counted again")
    kill(server, "engine")
    until_ready(server)
    assert succeeded(server) >= before + 2
    assert len([line for line in server.log if "cannot write down what was counted" in line]) == 1


def test_processes_that_hang_are_replaced(tmp_path: Path) -> None:
    add_identity(tmp_path)
    flags = ("--workers=1", "--hang-timeout-secs=3")
    with penstock_server(*flags, repository=tmp_path) as server:
        for name in ("engine", "worker 1"):
            kill(server, name, by=signal.SIGSTOP)
            server.wait_for(rf"the {name} \(process \d+\) has not turned its event loop for \d+ s")
            until_ready(server)


def test_a_stop_answers_what_was_accepted_and_leaves_no_process(tmp_path: Path) -> None:
    add_models(tmp_path, seconds=2)
    with penstock_server(*FLAGS, repository=tmp_path) as server:
        ids = processes(server).values()
        with in_hand(server) as outcomes:
            server.send(signal.SIGTERM)
            server.wait_for(STOPPING)
        assert {outcome.result() for outcome in outcomes} == {"200"}
        assert server.wait() == 0
        assert not any(map(is_running, ids))
        assert len([line for line in server.log if "stopp" in line]) == 2


def test_no_process_outlives_its_supervisor(tmp_path: Path) -> None:
    add_identity(tmp_path)
    with penstock_server(*FLAGS, repository=tmp_path) as server:
        ids = processes(server).values()
        server.send(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        # They have closed its pipes by then, and may have a little left to do.
        while any(map(is_running, ids)):
            pass


def test_a_start_that_fails_says_why_as_one_process_does(tmp_path: Path) -> None:
    add_identity(tmp_path, more="no_such_field: 1")
    said = failed_start("--workers=2", repository=tmp_path)
    assert "no_such_field" in said


def test_grpc_health_watches_are_told_of_a_new_engine(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        kill(server, "engine")
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
