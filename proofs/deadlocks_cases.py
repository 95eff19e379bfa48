"""Random groups of owners who each hold one connection and want another. Draws and simulates; opens nothing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["POOLS", "Case", "cases"]

POOLS: Final = {f"size{size}_{number}": size for size in (1, 2, 3) for number in range(4)}
"""Databases by name, with the sizes of their pools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Some owners, each with the pool that it holds a connection of and the pool that it wants one of."""

    holds: tuple[str, ...]
    wants: tuple[str, ...]
    alive: int | None
    """The owner that wants nothing and ends when all others wait; None: all of them wait for each other."""
    bystanders: tuple[str, ...]
    """What those want who hold nothing."""
    kinds: tuple[bool, ...]
    """For each owner: it opens sessions of its own instead of units."""

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools in it."""
        return tuple(dict.fromkeys(self.holds))


def cases(many: int, near: bool, seed: int) -> Iterator[Case]:
    """So many of them; `near` if one owner is alive. Over two to four pools, all of whose connections are held.

    Nobody in them can be left out: whoever ends, all others end too. So exactly one must be refused if nobody ends.
    """
    draw = random.Random(f"{seed} {near}")
    made = 0
    while made < many:
        pools = draw.sample(sorted(POOLS), draw.randint(2, 4))
        holds = [pool for pool in pools for _ in range(POOLS[pool])]
        if draw.random() < 0.5:
            following = dict(zip(pools, [*pools[1:], pools[0]], strict=True))
            wants = [following[pool] for pool in holds]
        else:
            wants = [draw.choice(pools) for _ in holds]
        if not all(_all_end(holds, wants, alive) for alive in range(len(holds))):
            continue
        made += 1
        yield Case(
            holds=tuple(holds),
            wants=tuple(wants),
            alive=draw.randrange(len(holds)) if near else None,
            bystanders=tuple(draw.choice(pools) for _ in range(draw.randint(0, 2))),
            kinds=tuple(draw.random() < 0.5 for _ in holds),
        )


def _all_end(holds: Sequence[str], wants: Sequence[str], alive: int) -> bool:
    """If this owner ends: each who is served ends and gives back both, until nothing moves."""
    queues = {pool: deque(owner for owner, want in enumerate(wants) if want == pool) for pool in set(wants)}
    freed = deque([holds[alive]])
    ended = {alive}
    while freed:
        pool = freed.popleft()
        queue = queues.get(pool, deque())
        while queue and queue[0] in ended:
            queue.popleft()
        if queue:
            served = queue.popleft()
            ended.add(served)
            freed += [pool, holds[served]]
    return len(ended) == len(holds)
