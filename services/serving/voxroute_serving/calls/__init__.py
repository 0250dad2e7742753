"""What surrounds every call: interceptor, places, statuses, the order of messages."""
