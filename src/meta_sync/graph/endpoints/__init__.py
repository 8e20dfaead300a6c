"""Domain verbs of the Graph API, one module per area."""
