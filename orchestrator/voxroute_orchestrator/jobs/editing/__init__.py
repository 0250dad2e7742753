"""The transcript of a job in people's hands: its revisions, and what is made of them."""
