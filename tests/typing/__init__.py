"""Files that are only type-checked: `right` has no error, `wrong` has the errors it says, by mypy and by pyright."""
