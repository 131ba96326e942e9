"""The house's floors: imports go downward, packages meet through files, nothing goes in circles."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("penstock", "training", "export", "serving")

# From the ground up. A unit is a module, or a package whose modules may import each other; it
# imports units of lower floors only.
FLOORS: Final = (
    (
        "serving.breakdown",
        "serving.errors",
        "serving.heap",
        "serving.inflight",
        "serving.memo",
        "serving.orphans",
        "serving.proc",
        "serving.standard_output",
        "serving.together",
    ),
    ("serving.acceptor", "serving.faults", "serving.http2", "serving.threads"),
    ("serving.dtypes", "serving.grpc_server"),
    ("serving.location", "serving.restrictions"),
    ("serving.types",),
    (
        "serving.cores",
        "serving.devices",
        "serving.flags",
        "serving.headings",
        "serving.layout",
        "serving.nvml",
        "serving.summaries",
        "serving.tritonserver",
    ),
    ("serving.followed", "serving.pem"),
    (
        "serving.channel_settings",
        "serving.deprecated_settings",
        "serving.engine_settings",
        "serving.loading_settings",
        "serving.metrics_settings",
        "serving.network_settings",
        "serving.security_settings",
        "serving.triton_settings",
    ),
    (
        "serving.gpu_metrics",
        "serving.host_metrics",
        "serving.passport",
        "serving.settings",
        "serving.shared_memory",
        "serving.statistics",
    ),
    (
        "serving.event_loop",
        "serving.logs",
        "serving.metric_text",
        "serving.open_files",
        "serving.server_metrics",
        "serving.tracing",
        "serving.variables",
    ),
    ("serving.config", "serving.wire", "serving.metrics", "serving.storage"),
    ("serving.engine.gpu_memory", "serving.engine.places"),
    ("serving.engine.base", "serving.engine.batching", "serving.engine.backends"),
    ("serving.engine.deadly_values", "serving.engine.parity"),
    ("serving.engine.acceleration",),
    (
        "serving.engine.cache",
        "serving.engine.classification",
        "serving.engine.dependents",
        "serving.engine.ensemble_flow",
        "serving.engine.raw_data",
        "serving.engine.repository",
        "serving.engine.response_counts",
        "serving.engine.responses",
        "serving.engine.servable",
        "serving.engine.validation",
    ),
    ("serving.engine.execution", "serving.engine.splitting"),
    ("serving.engine.ragged", "serving.engine.sequences"),
    ("serving.engine.scheduling",),
    (
        "serving.engine.cached",
        "serving.engine.ensemble",
        "serving.engine.model",
        "serving.engine.warmup",
    ),
    ("serving.engine.decoupled", "serving.engine.generation"),
    ("serving.engine.assemble",),
    ("serving.engine.opening", "serving.engine.override", "serving.engine.snapshot"),
    ("serving.engine.loading",),
    ("serving.engine.agreement", "serving.engine.survey"),
    ("serving.engine.registry",),
    ("serving.engine.rollout",),
    ("serving.engine.control",),
    ("serving.engine.polling",),
    ("serving.busy_poll", "serving.engine.embedded", "serving.triton", "serving.workers"),
    ("serving.gateway.lingering", "serving.gateway.unframed"),
    (
        "serving.gateway.aside",
        "serving.gateway.body",
        "serving.gateway.connections",
        "serving.gateway.heads",
        "serving.gateway.large_body",
        "serving.gateway.disconnect",
        "serving.gateway.extensions",
        "serving.gateway.errors",
        "serving.gateway.groups",
        "serving.gateway.lifecycle",
        "serving.gateway.precedence",
        "serving.gateway.predictions",
        "serving.gateway.schemas",
        "serving.gateway.server_timing",
        "serving.gateway.sockets",
    ),
    (
        "serving.gateway.access",
        "serving.gateway.answers",
        "serving.gateway.api_keys",
        "serving.gateway.examples",
        "serving.gateway.health",
        "serving.gateway.metrics",
        "serving.gateway.tls",
    ),
    ("serving.gateway.authorisation", "serving.gateway.inference"),
    (
        "serving.gateway.calls",
        "serving.gateway.hot_lane",
        "serving.gateway.routing",
        "serving.gateway.security",
        "serving.gateway.traced",
    ),
    (
        "serving.gateway.cuda_shared_memory",
        "serving.gateway.generate",
        "serving.gateway.guard",
        "serving.gateway.inflight_bodies",
        "serving.gateway.log_settings",
        "serving.gateway.repository",
        "serving.gateway.shared_memory",
        "serving.gateway.streaming",
        "serving.gateway.trace_settings",
    ),
    ("serving.gateway.grpc_ports",),
    (
        *("serving.gateway.predict", "serving.gateway.rest", "serving.gateway.rpc"),
        "serving.gateway.page",
    ),
    ("serving.gateway.app",),
    ("serving.gateway.server",),
    ("serving.announcement", "serving.engines"),
    ("serving.supervision",),
    ("serving.bench", "serving.command", "serving.config_command", "serving.validate"),
    ("serving.doctor", "serving.tune"),
    ("training",),
    ("export",),
    ("penstock",),
)

# What a unit must not import, floors aside, and the only exceptions.
FORBIDDEN: Final = (
    ("training", ("serving", "export"), ()),
    (
        "export",
        ("serving",),
        (
            "serving.config",
            "serving.dtypes",
            "serving.errors",
            "serving.nvml",
            "serving.passport",
            "serving.types",
        ),
    ),
    ("serving", ("torch", "training", "export"), ()),
    ("serving.gateway", ("serving.engine", "onnxruntime"), ("serving.engine.base",)),
    ("serving.engine", ("fastapi", "starlette", "uvicorn", "grpc", "serving.wire"), ()),
    # What asks other servers executes nothing, and needs no runtime for models.
    # It may gather requests into batches, which it must know to fit their model.
    (
        "serving.triton",
        ("serving.engine", "serving.gateway", "fastapi", "onnxruntime"),
        ("serving.engine.batching", "serving.engine.validation"),
    ),
    # Whoever asks an engine in another process needs none of its own.
    (
        "serving.workers",
        ("serving.engine", "serving.gateway", "fastapi", "onnxruntime"),
        ("serving.engine.base",),
    ),
    ("serving.supervision", ("serving.engine", "onnxruntime"), ()),
    ("serving.wire", ("fastapi", "starlette", "uvicorn", "grpc", "asyncio", "onnxruntime"), ()),
    ("serving.http2", ("asyncio", "grpc", "socket", "ssl", "time"), ()),
    ("serving.types", ("fastapi", "grpc", "tritonclient", "onnxruntime"), ()),
    ("serving.validate", ("serving.gateway",), ()),
    # What measures any server knows none from the inside, and runs without a model runtime.
    ("serving.bench", ("serving.engine", "serving.gateway", "fastapi", "onnxruntime"), ()),
    ("serving.tune", ("serving.engine", "serving.gateway", "fastapi", "onnxruntime"), ()),
    ("serving.bench.client", ("serving.bench.report", "rich", "click"), ()),
    ("serving.engine.batching.alarms", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.entries", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.strategies", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.sequencer", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.arrivals", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.prefix", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.queue", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.urgency", ("asyncio", "time", "threading"), ()),
    ("serving.engine.batching.merge", ("asyncio", "time", "threading"), ()),
)


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _modules() -> dict[str, Path]:
    files = [ROOT / "penstock.py"]
    for package in PACKAGES[1:]:
        files += sorted((ROOT / package).rglob("*.py"))
    return {_module_name(path): path for path in files}


MODULES: Final = _modules()


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, also inside functions; project modules by full name."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floors"
            source = node.module or ""
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in MODULES else source


def _within(module: str, unit: str) -> bool:
    return module == unit or module.startswith(f"{unit}.")


def _floor(module: str) -> tuple[int, str] | None:
    for floor, units in enumerate(FLOORS):
        for unit in units:
            if _within(module, unit):
                return floor, unit
    return None


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor(module: str) -> None:
    is_empty_package = MODULES[module].name == "__init__.py" and module in {
        "serving",
        "serving.engine",
        "serving.gateway",
    }
    assert _floor(module) is not None or is_empty_package


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    here = _floor(module)
    for imported in _imports(MODULES[module]):
        there = _floor(imported) if imported.partition(".")[0] in PACKAGES else None
        if here and there and there[1] != here[1]:
            assert there[0] < here[0], f"{module} (floor {here[0]}) imports {imported} ({there[0]})"


@pytest.mark.parametrize(("unit", "banned", "exceptions"), FORBIDDEN)
def test_a_unit_keeps_away_from_what_is_not_its_business(
    unit: str, banned: tuple[str, ...], exceptions: tuple[str, ...]
) -> None:
    for module, path in MODULES.items():
        if _within(module, unit):
            for imported in _imports(path):
                is_banned = any(_within(imported, name) for name in banned)
                is_excepted = any(_within(imported, name) for name in exceptions)
                assert not is_banned or is_excepted, f"{module} imports {imported}"


def test_no_imports_go_in_circles() -> None:
    graph = {module: set(_imports(path)) & MODULES.keys() for module, path in MODULES.items()}
    for module, imported in graph.items():
        # A package's __init__ offers what its modules hold; the modules do not import it back.
        imported.discard(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' -> '.join(error.args[1])}")


def test_no_file_is_named_after_a_library_that_it_imports() -> None:
    for module, path in MODULES.items():
        libraries = {name.partition(".")[0] for name in _imports(path)} - set(PACKAGES)
        assert path.stem not in libraries, f"{module} shadows the library {path.stem}"


def _picture() -> Iterator[tuple[str, int]]:
    """The units of serving as docs/architecture.md shows them, each with its line from above."""
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = document.partition("## The floors of serving")[2].split("```")[1]
    for number, line in enumerate(picture.strip().splitlines()):
        package = ""
        for name in re.split(r"\s{3,}", line)[0].replace("(a seam)", "").split():
            # Those of one package are named in full once a line.
            full = package + name if name.startswith(".") else name
            package = full.rpartition(".")[0]
            yield f"serving.{full}", number


def test_the_picture_of_the_floors_shows_every_unit_and_no_other() -> None:
    units = {unit for floor in FLOORS for unit in floor if _within(unit, "serving")}
    assert dict(_picture()).keys() == units


def test_no_unit_imports_one_that_the_picture_shows_above_it() -> None:
    lines = dict(_picture())
    for module in MODULES:
        here = _floor(module)
        for imported in _imports(MODULES[module]):
            there = _floor(imported)
            if here and there and here[1] in lines and there[1] in lines:
                assert lines[here[1]] <= lines[there[1]], f"{module} is shown below {imported}"
