"""A local Graph API that behaves like Meta's. A stranger to the rest: it imports nothing but the core."""
