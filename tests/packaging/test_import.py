"""What `import polysession` loads."""

from __future__ import annotations

from benchmarks.import_cost import BASE, OPTIONAL, OURS, loaded


def test_no_optional_package_is_imported() -> None:
    """Drivers, rich, cyclopts and the like are loaded when they are used."""
    assert not loaded(OURS) & set(OPTIONAL)


def test_the_number_of_modules_is_bounded() -> None:
    """Leaves are not imported: no command line, no demo, no test kit."""
    added = loaded(f"{BASE}; {OURS}") - loaded(BASE)
    assert not {
        name for name in added if name.startswith(("polysession.cli", "polysession.demo", "polysession.testing"))
    }
    assert len(added) <= 132  # 100 before the large rooms of the shell were split; it guards against whole packages
