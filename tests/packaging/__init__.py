"""The package as others get it: its wheel, its extras, its pinned lists, what importing it loads."""
