"""Who may call: API keys, principals and permissions."""
