"""One recording: speech to text, to other languages, to files."""
