"""One reader per raw layout; each yields cases."""
