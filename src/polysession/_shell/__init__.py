"""The shell: the only rooms that wait. Engines, pools, sessions, and the two drivers of the core's steps."""
