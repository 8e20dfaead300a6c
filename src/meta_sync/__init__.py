"""meta-sync keeps a store's catalog, stock, orders, messages and conversion events true on Facebook and Instagram."""

__version__ = "0.1.0"
