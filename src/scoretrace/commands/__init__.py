"""The commands. Each module imports only what its help needs, and the rest when it runs: help must come at once."""
