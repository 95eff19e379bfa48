"""The documentation, held to the code: every example runs, every link leads somewhere, every error has its page."""
