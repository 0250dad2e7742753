"""Models on this host: fetch, list, convert, remove."""
