"""The two-step job folder."""
