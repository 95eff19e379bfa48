"""polysession: the session layer for SQLAlchemy applications that work with many sessions."""
