"""Which endpoint serves a unit: declared intent, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.errors import RequestRefused, UnknownTenant
from polysession.options import Access
from polysession.policy.routing import choose
from polysession.topology import Database, Endpoint, Role

PRIMARY = Endpoint(database="orders")
ALONE = Database(name="orders", primary=PRIMARY)
TENANTS = {name: Endpoint(database="orders", tenant=name, number=n) for n, name in enumerate(("acme", "globex"), 1)}
RENTED = Database(name="orders", primary=None, tenants=TENANTS)


def with_replicas(number: int) -> Database:
    """The same database with so many replicas."""
    replicas = tuple(Endpoint(database="orders", role=Role.REPLICA, number=n + 1) for n in range(number))
    return Database(name="orders", primary=PRIMARY, replicas=replicas)


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("database", [ALONE, with_replicas(3)], ids=["alone", "with replicas"])
def test_the_primary_serves_whoever_asks_for_it(access: Access, database: Database) -> None:
    """Reads too, unless they ask for a replica."""
    choice = choose(database, access=access, role=Role.PRIMARY, draw=0.999)
    assert choice.endpoint is PRIMARY
    assert choice.reason == "the primary was asked for"


@pytest.mark.parametrize("database", [ALONE, with_replicas(3)], ids=["alone", "with replicas"])
def test_a_write_unit_is_refused_on_a_replica(database: Database) -> None:
    """Before any SQL, with what to do instead."""
    with pytest.raises(RequestRefused, match="a write unit cannot run on a replica of 'orders'") as caught:
        choose(database, access=Access.WRITE, role=Role.REPLICA, draw=0.0)
    assert caught.value.facts == {"database": "orders"}
    assert "use read(...)" in caught.value.do


def test_a_replica_that_is_not_there_is_refused() -> None:
    """Never served by the primary in silence."""
    with pytest.raises(RequestRefused, match="'orders' has no replica"):
        choose(ALONE, access=Access.READ, role=Role.REPLICA, draw=0.0)


@given(number=st.integers(1, 1000), draw=st.floats(0.0, 1.0, exclude_max=True))
def test_every_draw_gives_a_replica(number: int, draw: float) -> None:
    """Also the largest below one, which must not be rounded to the number of replicas."""
    choice = choose(with_replicas(number), access=Access.READ, role=Role.REPLICA, draw=draw)
    assert choice.endpoint.role is Role.REPLICA
    assert choice.reason == f"replica {choice.endpoint.number} of {number} was drawn"


def test_draws_spread_evenly() -> None:
    """Each replica has its share of the draws."""
    database = with_replicas(4)
    numbers = [
        choose(database, access=Access.READ, role=Role.REPLICA, draw=step / 400).endpoint.number for step in range(400)
    ]
    assert [numbers.count(number) for number in (1, 2, 3, 4)] == [100, 100, 100, 100]


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("tenant", TENANTS)
def test_a_tenant_has_its_own(access: Access, tenant: str) -> None:
    """The endpoint is the one of the tenant that was named."""
    choice = choose(RENTED, access=access, role=Role.PRIMARY, draw=0.999, tenant=tenant)
    assert choice.endpoint is TENANTS[tenant]
    assert choice.reason == f"tenant {tenant!r} was asked for"


@given(tenant=st.none() | st.text())
def test_no_tenant_by_default(tenant: str | None) -> None:
    """Whatever else is named, or nothing: no endpoint is given."""
    if tenant not in TENANTS:
        with pytest.raises(UnknownTenant):
            choose(RENTED, access=Access.WRITE, role=Role.PRIMARY, draw=0.0, tenant=tenant)


@pytest.mark.parametrize("tenant", [None, "acme", "nobody"])
def test_no_replica_of_a_tenant(tenant: str | None) -> None:
    """It is refused before the tenant is looked for."""
    with pytest.raises(RequestRefused, match="'orders' has no replica") as caught:
        choose(RENTED, access=Access.READ, role=Role.REPLICA, draw=0.0, tenant=tenant)
    assert caught.value.do == ("leave out role='replica'",)


def test_a_database_without_tenants_has_one_for_all() -> None:
    """The tenant is that of another database of the same unit."""
    assert choose(ALONE, access=Access.READ, role=Role.PRIMARY, draw=0.0, tenant="acme").endpoint is PRIMARY
