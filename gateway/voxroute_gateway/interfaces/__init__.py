"""What other makers have defined: routes, what is asked in them, and what is answered."""
