"""How the frameworks do the work, each as its documentation has it; none of them is needed by anything else."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, Final

from sqlalchemy.engine import make_url

from ..table import Item
from .works import CHANGE, NOTHING, NUMBERS, QUERY, READ, TEN, WRITE, Works

__all__ = ["FRAMEWORKS", "PACKAGES"]

PACKAGES: Final = ("flask_sqlalchemy", "advanced_alchemy", "oslo.db", "django")
"""Names of their distributions, for the versions."""


@contextmanager
def _flask_sqlalchemy(url: str, size: int) -> Iterator[Works]:
    flask: Any = import_module("flask")
    extension: Any = import_module("flask_sqlalchemy")
    app = flask.Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": size, "max_overflow": 0}
    db = extension.SQLAlchemy()
    db.init_app(app)

    def nothing() -> None:
        with app.app_context():
            pass

    def read() -> None:
        with app.app_context():
            db.session.get_one(Item, 1)

    def write() -> None:
        with app.app_context():
            db.session.add(Item(id=next(NUMBERS)))
            db.session.commit()

    def change() -> None:
        with app.app_context():
            db.session.get_one(Item, 1).value += 1
            db.session.commit()

    def ten() -> None:
        with app.app_context():
            for _ in range(10):
                db.session.execute(QUERY).all()

    try:
        yield {NOTHING: nothing, READ: read, WRITE: write, CHANGE: change, TEN: ten}
    finally:
        with app.app_context():
            db.engine.dispose()


@contextmanager
def _advanced_alchemy(url: str, size: int) -> Iterator[Works]:
    package: Any = import_module("advanced_alchemy.config")
    options = package.EngineConfig(pool_size=size, max_overflow=0)
    config = package.SQLAlchemySyncConfig(connection_string=url, engine_config=options)

    def nothing() -> None:
        with config.get_session():
            pass

    def read() -> None:
        with config.get_session() as session:
            session.get_one(Item, 1)

    def write() -> None:
        with config.get_session() as session:
            session.add(Item(id=next(NUMBERS)))
            session.commit()

    def change() -> None:
        with config.get_session() as session:
            session.get_one(Item, 1).value += 1
            session.commit()

    def ten() -> None:
        with config.get_session() as session:
            for _ in range(10):
                session.execute(QUERY).all()

    try:
        yield {NOTHING: nothing, READ: read, WRITE: write, CHANGE: change, TEN: ten}
    finally:
        config.get_engine().dispose()


@contextmanager
def _oslo_db(url: str, size: int) -> Iterator[Works]:
    facade: Any = import_module("oslo_db.sqlalchemy.enginefacade")
    manager = facade.transaction_context()
    manager.configure(connection=url, max_pool_size=size, max_overflow=0)

    @facade.transaction_context_provider
    class Context:
        """Carries the session, as oslo.db has it."""

    def nothing() -> None:
        with manager.reader.using(Context()):
            pass

    def read() -> None:
        with manager.reader.using(Context()) as session:
            session.get_one(Item, 1)

    def write() -> None:
        with manager.writer.using(Context()) as session:
            session.add(Item(id=next(NUMBERS)))

    def change() -> None:
        with manager.writer.using(Context()) as session:
            session.get_one(Item, 1).value += 1

    def ten() -> None:
        with manager.reader.using(Context()) as session:
            for _ in range(10):
                session.execute(QUERY).all()

    try:
        yield {NOTHING: nothing, READ: read, WRITE: write, CHANGE: change, TEN: ten}
    finally:
        manager.writer.get_engine().dispose()


_aliases: Final = itertools.count(1)
_models: Final[dict[str, Any]] = {}


@contextmanager
def _django(url: str, size: int) -> Iterator[Works]:
    """With a connection for each thread that stays open, as it has no pool unless it is told to."""
    django: Any = import_module("django")
    db: Any = import_module("django.db")
    settings: Any = import_module("django.conf").settings
    place = make_url(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": place.database,
        "USER": place.username or "",
        "PASSWORD": place.password or "",
        "HOST": place.host,
        "PORT": place.port,
        "CONN_MAX_AGE": None,
    }
    if not settings.configured:
        settings.configure(DATABASES={"default": database}, USE_TZ=True)
        django.setup()
    alias = f"place{next(_aliases)}"
    db.connections.settings[alias] = db.connections.configure_settings({"default": database})["default"]
    item = _django_model()
    atomic: Callable[..., AbstractContextManager[object]] = db.transaction.atomic

    def nothing() -> None:
        pass

    def read() -> None:
        item.objects.using(alias).get(pk=1)

    def write() -> None:
        with atomic(using=alias):
            item.objects.using(alias).create(id=next(NUMBERS), value=0)

    def change() -> None:
        with atomic(using=alias):
            found = item.objects.using(alias).get(pk=1)
            found.value += 1
            found.save()

    def ten() -> None:
        for _ in range(10):
            list(item.objects.using(alias).filter(pk=1).values_list("id", "value"))

    try:
        yield {NOTHING: nothing, READ: read, WRITE: write, CHANGE: change, TEN: ten}
    finally:
        db.connections[alias].close()


def _django_model() -> Any:
    if "item" not in _models:
        models: Any = import_module("django.db.models")
        meta = type("Meta", (), {"app_label": "benchmarks", "db_table": "item"})
        fields = {"id": models.IntegerField(primary_key=True), "value": models.IntegerField(default=0)}
        with warnings.catch_warnings():
            _models["item"] = type("Item", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
    return _models["item"]


FRAMEWORKS: Final[dict[str, Callable[[str, int], AbstractContextManager[Works]]]] = {
    "Flask-SQLAlchemy": _flask_sqlalchemy,
    "advanced-alchemy": _advanced_alchemy,
    "oslo.db": _oslo_db,
    "Django": _django,
}
