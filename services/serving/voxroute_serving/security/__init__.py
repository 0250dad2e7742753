"""Who may call, and what others can read: certificates, tokens, names of clients."""
