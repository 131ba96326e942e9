"""One check for both protocols: keys with rights, and the headers that restrictions name."""

from pathlib import Path

import pytest

from serving.errors import PermissionDenied, Restricted, Unauthenticated
from serving.gateway import api_keys, authorisation
from serving.gateway.authorisation import Authorisation
from serving.restrictions import Group, Restriction
from serving.settings import Settings

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"
RESTRICTION = Restriction((Group.INFERENCE, Group.HEALTH), "Team-Key", "sesame")


def with_keys(folder: Path, settings: Settings | None = None) -> Authorisation:
    file = folder / "keys"
    file.write_text(f"user {KEY}\nroot {OTHER} admin\n")
    return authorisation.of_http(settings or Settings(), api_keys.followed(str(file)))


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"authorization", b"bearer  " + KEY.encode() + b" "),
        (b"x-api-key", KEY.encode()),
    ],
)
def test_a_key_comes_in_either_header(tmp_path: Path, header: tuple[bytes, bytes]) -> None:
    headers = [(b"host", b"x"), header]
    assert with_keys(tmp_path).check(Group.INFERENCE, headers) == "user"


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", KEY.encode(), b"Basic " + KEY.encode(), b"Bearer \xff"],
)
def test_any_other_authorization_is_none(tmp_path: Path, value: bytes) -> None:
    with pytest.raises(Unauthenticated):
        with_keys(tmp_path).check(Group.INFERENCE, [(b"authorization", value)])


def test_of_several_keys_the_first_counts(tmp_path: Path) -> None:
    check = with_keys(tmp_path).check
    right, wrong = (b"x-api-key", KEY.encode()), (b"x-api-key", b"wrong")
    assert check(Group.INFERENCE, [right, wrong]) == "user"
    with pytest.raises(Unauthenticated):
        check(Group.INFERENCE, [wrong, right])


@pytest.mark.parametrize("group", Group)
def test_rights_decide_but_for_what_is_open(tmp_path: Path, group: Group) -> None:
    check = with_keys(tmp_path).check
    if group in (Group.HEALTH, Group.DOCUMENTATION):
        assert check(group, []) == ""
        return
    with pytest.raises(Unauthenticated):
        check(group, [])
    assert check(group, [(b"x-api-key", OTHER.encode())]) == "root"
    if group in api_keys.RIGHTS["infer"]:
        assert check(group, [(b"x-api-key", KEY.encode())]) == "user"
    else:
        with pytest.raises(PermissionDenied, match=group.value):
            check(group, [(b"x-api-key", KEY.encode())])


def test_what_is_of_no_group_wants_any_key(tmp_path: Path) -> None:
    check = with_keys(tmp_path).check
    with pytest.raises(Unauthenticated):
        check(None, [])
    assert check(None, [(b"x-api-key", KEY.encode())]) == "user"


@pytest.mark.parametrize("group", Group)
def test_a_restriction_wants_its_header_and_value(group: Group) -> None:
    check = authorisation.of_http(Settings(http_restricted_api=(RESTRICTION,)), None).check
    if group not in RESTRICTION.groups:
        assert check(group, []) == ""
        return
    assert check(group, [(b"team-key", b"sesame")]) == ""
    for headers in ([], [(b"team-key", b"Sesame")], [(b"team-key", b"")], [(b"other", b"sesame")]):
        with pytest.raises(Restricted) as error:
            check(group, headers)
        assert error.value.message == "This API is restricted, expecting header 'Team-Key'"


def test_over_grpc_the_header_has_tritons_prefix() -> None:
    settings = Settings(grpc_restricted_protocol=(RESTRICTION,))
    assert not authorisation.of_http(settings, None).is_on
    check = authorisation.of_grpc(settings, None).check
    assert check(Group.INFERENCE, [(b"triton-grpc-protocol-team-key", b"sesame")]) == ""
    with pytest.raises(Restricted, match="protocol is restricted, expecting header 'triton-grpc-"):
        check(Group.INFERENCE, [(b"team-key", b"sesame")])


def test_a_key_and_a_header_are_two_things(tmp_path: Path) -> None:
    check = with_keys(tmp_path, Settings(http_restricted_api=(RESTRICTION,))).check
    key, header = (b"x-api-key", KEY.encode()), (b"team-key", b"sesame")
    assert check(Group.INFERENCE, [key, header]) == "user"
    with pytest.raises(Unauthenticated):
        check(Group.INFERENCE, [header])
    with pytest.raises(Restricted):
        check(Group.INFERENCE, [key])
    # Open to those without a key, and yet restricted.
    assert check(Group.HEALTH, [header]) == ""
    with pytest.raises(Restricted):
        check(Group.HEALTH, [])


def test_without_settings_nothing_is_asked() -> None:
    assert not authorisation.of_http(Settings(), None).is_on
    assert not authorisation.of_grpc(Settings(), None).is_on
