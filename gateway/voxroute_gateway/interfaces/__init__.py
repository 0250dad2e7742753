"""The routes: what is asked in them, and what is answered; most are as other makers define them."""
