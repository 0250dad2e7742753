"""A whole recording sent for one answer: words' times, or who speaks when."""
