"""Every case by its name: what is asked of both servers."""

from collections.abc import Mapping
from typing import Final

from tests.conformance import cases_documents, cases_extensions, cases_faults, cases_inference
from tests.conformance.calls import Call

_TABLES: Final = (cases_documents, cases_extensions, cases_faults, cases_inference)
CASES: Final[Mapping[str, Call]] = {
    name: call for table in _TABLES for name, call in table.CASES.items()
}
assert len(CASES) == sum(len(table.CASES) for table in _TABLES), "two cases have one name"
