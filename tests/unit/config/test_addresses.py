"""What a topology shows of its secrets: nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysession.topology import Address, Arguments, Endpoint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:secret@db1:5432/orders", "postgresql://app:***@db1:5432/orders"),
        ("postgresql://app:sec/ret@db1/orders", "postgresql://app:***@db1/orders"),
        ("postgresql://app:sec@ret@db1/orders", "postgresql://app:***@db1/orders"),
        ("postgresql://app:sec?ret@db1/orders", "postgresql://app:***@db1/orders"),
        ("postgresql:///app:secret@db1/orders", "postgresql:///app:***@db1/orders"),
        ("postgresql://app:secret", "postgresql://***"),
        ("postgresql://app@db1/orders", "postgresql://app@db1/orders"),
        ("postgresql://db1:5432/orders", "postgresql://db1:5432/orders"),
        ("postgresql://[::1]:5432/orders", "postgresql://[::1]:5432/orders"),
        ("postgresql://db1/o?sslmode=require&password=s", "postgresql://db1/o?sslmode=require&password=***"),
        ("postgresql:///o?sslp%61ssword=secret&a=b", "postgresql:///o?sslp%61ssword=***&a=b"),
        ("postgresql:///o?oauth_client_secret=s", "postgresql:///o?oauth_client_secret=***"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("sqlite://", "sqlite://"),
        ("app:secret@db1", "***"),
    ],
)
def test_an_address_hides_its_password(url: str, shown: str) -> None:
    """Only `reveal` gives out the password; where a URL is malformed, more is hidden rather than less."""
    address = Address(url)
    assert address.reveal() == url
    assert (address.shown, str(address), f"{address}", repr(address)) == (shown, shown, shown, f"Address({shown!r})")


@settings(deadline=None)
@given(password=st.text(min_size=1))
def test_no_password_is_shown(password: str) -> None:
    """Whatever characters a password has, raw in the URL, it is not shown."""
    address = Address(f"postgresql://app:<<{password}>>@db1/orders?sslmode=require")
    assert address.shown == "postgresql://app:***@db1/orders?sslmode=require"


def test_arguments_of_connect_are_not_shown() -> None:
    """An endpoint's repr names the arguments for the driver and shows no value."""
    endpoint = Endpoint(database="orders", connect=Arguments({"application_name": "shop", "password": "secret"}))
    assert "connect=Arguments(application_name=***, password=***)" in repr(endpoint)
    assert "secret" not in repr(endpoint)
    assert dict(endpoint.connect) == {"application_name": "shop", "password": "secret"}
    assert endpoint.connect == {"application_name": "shop", "password": "secret"}
