"""Every kind of failure has a status in every protocol."""

from http import HTTPStatus

import grpc
import pytest

from serving.errors import Code
from serving.gateway.errors import GRPC_STATUS, HTTP_STATUS, OWN, TRITON, Statuses


@pytest.mark.parametrize("statuses", [OWN, TRITON])
def test_the_tables_are_total(statuses: Statuses) -> None:
    assert statuses.http.keys() == statuses.grpc.keys() == set(Code)


def test_a_failure_is_the_clients_in_both_protocols_or_in_none() -> None:
    ours = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED}
    # What is restricted is refused by the two statuses that Triton has for it.
    for code in set(Code) - {Code.RESTRICTED}:
        # 504: the time was the client's to give.
        is_ours = HTTP_STATUS[code] >= HTTPStatus.INTERNAL_SERVER_ERROR
        assert is_ours == (GRPC_STATUS[code] in ours) or code is Code.DEADLINE_EXCEEDED
    assert [code for code in Code if HTTP_STATUS[code] == 500] == [Code.INTERNAL]
