"""The kernel: configuration, database, errors, queue and the like. It knows nothing about Meta or any domain."""
