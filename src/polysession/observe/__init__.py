"""Folds facts into snapshots. Knows no door and steers nothing."""
