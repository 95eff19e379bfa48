"""The drivers under one blocking face, so that a test of the proxy is written once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

__all__ = ["DRIVERS", "Driver", "connect"]

DRIVERS = {"psycopg": "pg18", "asyncpg": "pg18", "pymysql": "mariadb", "asyncmy": "mariadb"}
"""The drivers that are tried, and the target of each."""


class Driver:
    """One connection. Not in autocommit: a write begins a transaction."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def run(self, sql: str) -> Any:
        """Execute a statement; the first column of its first row, if it has any."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None
        finally:
            cursor.close()

    def commit(self) -> None:
        """End the transaction."""
        self.connection.commit()

    def close(self) -> None:
        """End the connection, whatever state it is in."""
        try:
            self.connection.close()
        except Exception:
            return  # the link was cut: there is nobody to say goodbye to


class AsyncDriver(Driver):
    """The same for a coroutine driver, with an event loop of its own."""

    def __init__(self, words: dict[str, Any]) -> None:
        self.runner = asyncio.Runner()
        try:
            super().__init__(self.runner.run(self._connect(words)))
        except BaseException:
            self.runner.close()
            raise

    async def _connect(self, words: dict[str, Any]) -> Any:
        import asyncmy

        return await asyncmy.connect(**words)

    def run(self, sql: str) -> Any:
        """Execute a statement; the first column of its first row, if it has any."""

        async def run() -> Any:
            async with self.connection.cursor() as cursor:
                await cursor.execute(sql)
                row = await cursor.fetchone()
                return row[0] if row else None

        return self.runner.run(run())

    def commit(self) -> None:
        """End the transaction."""
        self.runner.run(self.connection.commit())

    def close(self) -> None:
        """End the connection, whatever state it is in."""
        if self.connection is None:
            return
        try:
            self.runner.run(self._close())
        except Exception:
            self.connection.close()
        finally:
            self.connection = None
            self.runner.close()

    async def _close(self) -> None:
        await asyncio.wait_for(self.connection.ensure_closed(), 1)


class AsyncpgDriver(AsyncDriver):
    """asyncpg, which has no cursors in this sense and begins no transaction by itself."""

    transaction: Any = None

    async def _connect(self, words: dict[str, Any]) -> Any:
        import asyncpg

        return await asyncpg.connect(**words)

    def run(self, sql: str) -> Any:
        """Execute a statement; the first column of its first row, if it has any."""
        if self.transaction is None and not sql.lower().startswith("select"):
            self.transaction = self.connection.transaction()
            self.runner.run(self.transaction.start())
        return self.runner.run(self.connection.fetchval(sql))

    def commit(self) -> None:
        """End the transaction."""
        transaction, self.transaction = self.transaction, None
        self.runner.run(transaction.commit())

    async def _close(self) -> None:
        await self.connection.close(timeout=1)


def connect(driver: str, url: str, port: int | None = None, *, autocommit: bool = False) -> Driver:
    """Connect by `driver` to the database of `url`, at `port` where it differs.

    Without asking for encryption: a client that does, tries again without it when the link breaks meanwhile, so that
    one failure is two connections.
    """
    parts = urlsplit(url)
    place: dict[str, Any] = {"host": "127.0.0.1", "port": port or parts.port, "user": "app"}
    password = {"password": parts.password} if parts.password else {}
    name = parts.path.lstrip("/")
    if driver == "psycopg":
        import psycopg

        return Driver(psycopg.connect(**place, dbname=name, sslmode="disable", autocommit=autocommit))
    if driver == "pymysql":
        import pymysql

        return Driver(pymysql.connect(**place, **password, database=name, autocommit=autocommit))
    if driver == "asyncpg":
        return AsyncpgDriver({**place, "database": name, "ssl": False})
    return AsyncDriver({**place, **password, "db": name, "autocommit": autocommit})
