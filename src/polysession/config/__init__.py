"""Configuration: from a TOML file, a mapping, or what a door was given, to a `Topology`. Opens nothing.

Every key is checked before the first connection, and what cannot be honoured is refused with the key's path, what was
expected and what was found. No password is shown, in no text, repr, or local variable of a traceback. The shape:

    [databases.orders]                 # a name of letters, digits, _, . and -
    url = "postgresql+psycopg://app:${ORDERS_PASSWORD}@db1/orders"
    replicas = ["postgresql+psycopg://app:${ORDERS_PASSWORD}@db2/orders"]
    pooler = "transaction"             # a pooler in transaction mode stands before them; "none" by default

    [databases.orders.pool]            # all keys are optional; the defaults are those of `PoolOptions`
    size = 20                          # most connections at once, at least 1
    floor = 2                          # connections that are kept open though nobody uses them; 0 by default
    checkout_timeout = "5s"            # seconds as a number, or a text with the unit ms, s, m or h; above 0
    max_lifetime = "30m"               # likewise; 0 means never
    ping_after = "30s"                 # idleness after which the server is asked whether it is there; 0 means never
    reset = "always"                   # undo what units set on connections: "touched" (default), "always", "never"
    overload = "shed"                  # while more come than can be served: refuse some, or "wait" (default)
    idle_warning = "2s"                # a transaction without a statement for longer is told; 0 means never

    [databases.orders.connect]         # keyword arguments for the driver's connect(), as given
    application_name = "shop"

    [databases.app.tenants]            # in place of a url and replicas: a database for each tenant, all of one backend;
    acme = "postgresql://db5/acme"     # the other keys of [databases.app] hold for each, and each has its own pool
    globex = "postgresql://db5/globex" # a name of letters, digits, _, . and -

    [databases]
    billing = "mysql://..."            # a database of which only the URL is said

    [defaults.pool]                    # for all databases; a database's own pool goes before, key by key
    size = 10

Replicas are checked and kept in the topology with the pool and connect arguments of their database; whether read units
are served by them is decided elsewhere. A URL without a driver gets the default one of the door that it is given to
(`resolve_driver`). The rules for URLs are in `urls`.

`${NAME}` and `${NAME:-default}` are replaced in texts, `$${` is a literal `${`; keys are left alone. What the
environment puts into a URL must be percent-encoded like the rest of it; a password with reserved characters may as well
be given as it is, as `password` in `connect`. A number may be written as text only if it comes from the environment:
`size = "${POOL_SIZE:-10}"`; without a unit, a time is in seconds.
"""

from __future__ import annotations

from .drivers import BACKENDS, DRIVERS, Driver, resolve_driver
from .loading import from_databases, from_mapping, load_toml
from .urls import Fault, Parts, split

__all__ = [
    "BACKENDS",
    "DRIVERS",
    "Driver",
    "Fault",
    "Parts",
    "from_databases",
    "from_mapping",
    "load_toml",
    "resolve_driver",
    "split",
]
