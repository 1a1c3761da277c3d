"""What drains the journal: the delivery loop, and the ways it can take."""
