"""How a model's sessions share the threads that there are for models.

Each model may use all of them, as it may be the only one in use; ONNX Runtime's threads sleep
while they have nothing to do. Within a model, its sessions run at the same time and divide them.
"""

from dataclasses import dataclass

from serving.config import Proto, instance_sessions, runtime_options


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """`instances` run on so many `sessions`, each of which computes by so many `threads`.

    `share` is what a session has of the budget, which its configuration may overrule.
    """

    instances: int
    sessions: int
    share: int
    threads: int

    def __str__(self) -> str:
        threads = _counted(self.threads, "thread")
        instances = _counted(self.instances, "instance")
        if self.sessions < self.instances:
            return f"{instances} on {_counted(self.sessions, 'session')} x {threads}"
        return f"{instances} x {threads}"


def thread_plan(config: Proto, budget: int) -> ThreadPlan:
    """The plan of a resolved configuration; `budget` threads are there for the model.

    What it says of a session's threads itself holds, whatever the budget. Only ONNX Runtime has
    threads to be given; other backends compute in the instances' own.
    """
    indices = instance_sessions(config) or [0]
    sessions = len(set(indices))
    if config.backend not in ("", "onnxruntime"):
        return ThreadPlan(len(indices), sessions, 1, 1)
    share = max(1, budget // sessions)
    threads = runtime_options(config).intra_op_threads or share
    return ThreadPlan(len(indices), sessions, share, threads)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
