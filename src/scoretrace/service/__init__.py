"""Web services by name: what is switched on for them, here and in Azure, and what they logged."""
