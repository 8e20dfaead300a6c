"""Stores (tenants) and their settings."""
