"""Real database servers for the tests: found, started on free loopback ports, asked, stopped.

`finders` says which engines this machine has and how to get the others (standard library only: `tools/engines.py`
stands on it). `process` starts and stops one server process and knows the traps of that. `postgres`, `mariadb`,
`galera` and `pgbouncer` are the servers. `targets` gives a test a fresh database on an engine that it names.
Nothing here is part of the installed package.
"""
