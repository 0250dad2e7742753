"""One client for each contract: calls that are resumed, retried and explained."""
