"""The worker edge: the pump over PostgreSQL and the supervised arq worker."""
