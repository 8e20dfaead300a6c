"""The meta-sync command."""
