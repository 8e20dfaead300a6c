"""Sandbox routes, one module per area."""
