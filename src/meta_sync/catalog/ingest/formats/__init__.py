"""File formats, one module each: bytes in, rows and findings out. Pure; they reach no database."""
