"""A defect on purpose, for tests: it shows that the conditions can fail. Nothing a user should ever switch on.

The command reads it from the environment variable `POLYSESSION_DEMO_DEFECT`; there is no option for it.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from .inputs import PaymentInputs
from .results import PaymentResult
from .schema import Schema
from .transactions import payment

__all__ = ["VARIABLE", "Defect", "ForgetfulPayments"]

VARIABLE: Final = "POLYSESSION_DEMO_DEFECT"


class Defect(StrEnum):
    """What goes wrong."""

    WAREHOUSE_YTD = "warehouse-ytd"
    """Every 50th payment skips the UPDATE of W_YTD: conditions 1 and 8 fail."""


class ForgetfulPayments:
    """Payments of which every 50th leaves W_YTD as it was. Thread-safe."""

    every: Final = 50

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __call__(self, session: Session, schema: Schema, inputs: PaymentInputs) -> PaymentResult:
        """A payment as `transactions.payment` does it; the forgotten UPDATE is undone in the same unit."""
        result = payment(session, schema, inputs)
        with self._lock:
            self._count += 1
            forgets = self._count % self.every == 0
        if forgets:
            warehouse = schema.warehouse
            session.execute(
                update(warehouse).where(warehouse.w_id == inputs.w_id).values(w_ytd=warehouse.w_ytd - inputs.amount),
                execution_options={"synchronize_session": False},
            )
        return result
