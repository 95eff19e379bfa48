"""Figures: what polysession costs beside plain SQLAlchemy, side by side in one run. Never a gate."""
