"""Which service does the work: hosts, offers, routing, services of this host."""
