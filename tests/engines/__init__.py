"""Real database servers for the tests: found, started on free loopback ports, asked, stopped.

`finders` says which engines this machine has and how to get the others (standard library only: `tools/engines.py`
stands on it). `folders` says where servers live and as whom; `process` starts and stops one of them. `postgres`,
`mariadb`, `galera`, `pgbouncer` and `sqlite` are the servers. `targets` gives a test a fresh database on an engine
that it names. Nothing here is part of the installed package.
"""
