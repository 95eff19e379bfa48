"""What is kept for each tenant, and never for a database: files, options, the words for where it is configured."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from polysession import Sessions
from polysession._shell.arguments import path_of_url
from polysession.errors import ConfigError, UnknownDatabase
from polysession.options import Access
from polysession.topology import Endpoint

ONE, OTHER = "acme", "Acme"


@pytest.fixture
def sessions() -> Sessions:
    """A door over two tenants in memory, whose names a file system may take for one."""
    return Sessions({"app": {"tenants": {ONE: "sqlite://", OTHER: "sqlite://"}}})


def test_databases_in_memory(sessions: Sessions) -> None:
    """Each tenant has its own, in a file that no other one can have."""
    files = set()
    for tenant in (ONE, OTHER):
        with sessions.begin(tenant=tenant) as session:
            session.execute(sa.text("create table one (tenant text)"))
            session.execute(sa.text("insert into one values (:tenant)"), {"tenant": tenant})
            files.add(Path(session.scalar(sa.text("select file from pragma_database_list"))).name.lower())
    for tenant in (ONE, OTHER):
        with sessions.read(tenant=tenant) as session:
            assert session.scalars(sa.text("select tenant from one")).all() == [tenant]
    assert len(files) == 2
    sessions.close()


def test_units_of_a_tenant_are_planned_once(sessions: Sessions) -> None:
    """What asks for a tenant and nothing else is looked up; each tenant has its own plan, none has that of nobody."""
    options = {
        tenant: sessions._options(Access.WRITE, ("app",), {} if tenant is None else {"tenant": tenant})
        for tenant in (ONE, OTHER, None)
    }
    for tenant in (ONE, OTHER):
        assert sessions._options(Access.WRITE, ("app",), {"tenant": tenant}) is options[tenant]
        assert sessions._plans[id(options[tenant])].endpoints == (f"app/tenant-{tenant}",)
    assert options[None].tenant is None
    assert id(options[None]) not in sessions._plans
    sessions.close()


def test_no_name_is_taken_for_a_remembered_unit(sessions: Sessions) -> None:
    """Whatever is given in place of names, before and after a unit of a tenant was remembered."""
    for _ in range(2):
        for names in ((ONE, ("app",)), (("app",), ONE), (["app"],), (("app", ONE),)):
            for asked in ({}, {"tenant": ONE}):
                with pytest.raises(UnknownDatabase):
                    sessions._options(Access.WRITE, names, asked)  # type: ignore[arg-type]  # they are refused
        sessions._options(Access.WRITE, ("app",), {"tenant": ONE})
    sessions.close()


def test_engines_of_two_backends() -> None:
    """They are refused when the door is made, before anything is connected."""
    engines = sa.create_engine("sqlite://"), sa.create_engine("postgresql+psycopg://nowhere.invalid/app")
    with pytest.raises(ConfigError, match="expected one backend for all, found postgresql, sqlite") as caught:
        Sessions({"app": {"tenants": dict(zip((ONE, OTHER), engines, strict=True))}})
    assert caught.value.facts["path"] == "databases.app.tenants"
    for engine in engines:
        engine.dispose()


def test_what_is_no_engine() -> None:
    """The key of the tenant is told."""
    with pytest.raises(ConfigError) as caught:
        Sessions({"app": {"tenants": {ONE: object()}}})
    assert caught.value.facts["path"] == "databases.app.tenants.acme"


def test_where_a_url_is_written() -> None:
    """The path is that of the file, with quotes where TOML has them."""
    assert path_of_url(Endpoint(database="app", tenant="acme")) == "databases.app.tenants.acme"
    assert path_of_url(Endpoint(database="a.b", tenant="v1.2")) == 'databases."a.b".tenants."v1.2"'


def test_names_of_tenants() -> None:
    """In the order of the configuration; none where there are none."""
    sessions = Sessions({"app": {"tenants": {"b": "sqlite://", "a": "sqlite://"}}, "shared": "sqlite://"})
    assert sessions.tenants("app") == ("b", "a")
    assert sessions.tenants("shared") == ()
    with pytest.raises(UnknownDatabase):
        sessions.tenants()
    sessions.close()
