"""What happens to the replicas while they are asked."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.machine import Unavailable
from deploy.sim.envoy import Envoy
from deploy.sim.load import Asked, load
from deploy.sim.network import Network
from deploy.sim.replicas import Replica

# How long everything is well before and after, and how long a fault lasts at least.
CALM_SECONDS: Final = 5.0
FAULT_SECONDS: Final = 6.0
POLL_SECONDS: Final = 0.02
PATIENCE_SECONDS: Final = 90.0
VICTIM: Final = 1


@dataclass(slots=True)
class Fault:
    """What befell a replica, in seconds of the monotonic clock.

    `began`: the signal was sent, or the wire pulled; `silent`: it took no more requests, if it was
    not told to stop; `ejected`: Envoy left it out; `over`: it could have answered again (or its new
    process was started); `returned`: Envoy took it back.
    """

    replica: int
    began: float
    silent: float = 0.0
    ejected: float = 0.0
    over: float = 0.0
    returned: float = 0.0


@dataclass(slots=True)
class Outcome:
    """A scenario that has been played."""

    name: str
    began: float
    faults: list[Fault]
    asked: list[Asked]
    # Of Envoy's log, by the request's id.
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Stage:
    """The machines, and what has happened so far."""

    network: Network
    replicas: list[Replica]
    envoy: Envoy
    faults: list[Fault] = field(default_factory=list)

    def begin(self, replica: int) -> Fault:
        """A fault of that replica begins now."""
        self.faults.append(Fault(replica, time.monotonic()))
        return self.faults[-1]

    async def until(self, reached: Callable[[], bool], what: str) -> float:
        """The moment when that is so; Unavailable if it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await asyncio.to_thread(reached):
            if time.monotonic() > deadline:
                raise Unavailable(f"not within {PATIENCE_SECONDS:.0f} s: {what}")
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic()

    async def ejected(self, fault: Fault) -> None:
        """Wait until Envoy leaves the replica out."""
        fault.ejected = await self.until(
            lambda: not self.envoy.healthy()[fault.replica], "Envoy leaves the replica out"
        )

    async def returned(self, fault: Fault) -> None:
        """Wait until Envoy has taken the replica back, from when it could answer again."""
        fault.over = time.monotonic()
        fault.returned = await self.until(
            lambda: self.envoy.healthy()[fault.replica], "Envoy takes the replica back"
        )


async def balance(stage: Stage) -> None:
    """Nothing happens."""
    await asyncio.sleep(2 * CALM_SECONDS)


async def rolling_restart(stage: Stage) -> None:
    """Each in turn is told to stop, and started again when it has."""
    for replica in stage.replicas:
        fault = stage.begin(replica.number)
        replica.send(signal.SIGTERM)
        await stage.ejected(fault)
        if code := await asyncio.to_thread(replica.wait):
            raise Unavailable(f"a replica that was told to stop ended with exit code {code}")
        replica.start()
        await stage.returned(fault)


async def killed(stage: Stage) -> None:
    """One is killed, as by the kernel that lacks memory, and later started again."""
    replica, fault = stage.replicas[VICTIM], stage.begin(VICTIM)
    replica.send(signal.SIGKILL)
    # As long as the kernel clears up after it, its connections are open.
    await asyncio.to_thread(replica.wait)
    fault.silent = time.monotonic()
    await stage.ejected(fault)
    await _last(fault)
    replica.start()
    await stage.returned(fault)


async def frozen(stage: Stage) -> None:
    """One stands still, its connections open, and goes on later."""
    replica, fault = stage.replicas[VICTIM], stage.begin(VICTIM)
    replica.send(signal.SIGSTOP)
    await stage.ejected(fault)
    fault.silent = fault.ejected
    await _last(fault)
    replica.send(signal.SIGCONT)
    await stage.returned(fault)


async def partitioned(stage: Stage) -> None:
    """The wire to one is pulled, and later put back."""
    fault = stage.begin(VICTIM)
    stage.network.cut(VICTIM)
    await stage.ejected(fault)
    fault.silent = fault.ejected
    await _last(fault)
    stage.network.mend(VICTIM)
    await stage.returned(fault)


async def _last(fault: Fault) -> None:
    await asyncio.sleep(max(0.0, fault.began + FAULT_SECONDS - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Scenario:
    """How it is played, and whether its clients let Envoy ask a second replica."""

    play: Callable[[Stage], Awaitable[None]]
    hedged: bool = False


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "balance": Scenario(balance),
    "rolling restart": Scenario(rolling_restart),
    "killed": Scenario(killed),
    "killed, hedged": Scenario(killed, hedged=True),
    "frozen": Scenario(frozen),
    "frozen, hedged": Scenario(frozen, hedged=True),
    "partitioned": Scenario(partitioned),
    "partitioned, hedged": Scenario(partitioned, hedged=True),
}


async def play(stage: Stage, name: str, rate: float) -> Outcome:
    """Play a scenario under load, calm before and after; Unavailable if it cannot be."""
    stage.faults = []
    finished = asyncio.Event()
    addresses, hedged = (stage.envoy.rest, stage.envoy.grpc), SCENARIOS[name].hedged
    began = time.monotonic()
    asking = asyncio.create_task(load(addresses, rate, hedged, finished.is_set))
    try:
        await asyncio.sleep(CALM_SECONDS)
        await SCENARIOS[name].play(stage)
        await asyncio.sleep(CALM_SECONDS)
    finally:
        finished.set()
        asked = await asking
    outcome = Outcome(name, began, stage.faults, asked)
    outcome.entries = await _logged(stage.envoy, asked)
    return outcome


async def _logged(envoy: Envoy, asked: list[Asked]) -> dict[str, dict[str, Any]]:
    """Envoy's log of these requests, once it is written."""
    wanted = {each.id for each in asked}
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 5
    while wanted - found.keys() and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
        found = {entry["id"]: entry for entry in envoy.entries() if entry["id"] in wanted}
    return found
