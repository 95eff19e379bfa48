"""The core: generators of steps. It says what has to be waited for next, and waits for nothing itself."""
