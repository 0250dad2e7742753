"""The web page: its files, and who is signed in to it."""
