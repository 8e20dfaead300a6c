"""The outbound client for Meta's Graph API. Pure of domains and of the database."""
