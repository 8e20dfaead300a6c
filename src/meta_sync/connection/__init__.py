"""A store's connection to Meta: its token and the catalog it selected."""
