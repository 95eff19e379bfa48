"""The pools alone, for engines that an application makes itself: `create_engine(url, poolclass=FairPool)`.

The doors make their engines, and use these pools, by themselves. What is public of the two is what every `Pool` of
SQLAlchemy has.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.pool import Pool

from ._shell import pool, pool_async

__all__ = ["FairAsyncPool", "FairPool"]

FairPool: Final[type[Pool]] = pool.FairPool
"""For threads and `create_engine`. Connections are given out in the order of asking and opened when none is about to
come back. `pool_size` is the most that are open at once (10); `pool_timeout` the longest wait in seconds (5), after
which `CheckoutTimeout` names who has them. Thread-safe."""
FairAsyncPool: Final[type[Pool]] = pool_async.FairAsyncPool
"""The same for asyncio and `create_async_engine`. One event loop per pool; other threads may only return."""
