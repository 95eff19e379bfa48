"""One suite of behaviour, run through both doors and every engine and driver.

Each behaviour is written once, as a coroutine against `AsyncSessions`: a test module's `test_...(door, cell)`. `doors`
lets the synchronous door be awaited; `cells` says over what the suite runs and gives a test its databases; `schema`
has the tables; `table` makes the page `docs/conformance.md` of the outcome of every cell. The first sentence of a
test's docstring is its row in that page.
"""
