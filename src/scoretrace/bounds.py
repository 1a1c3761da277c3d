"""What a query may take of this machine where nobody says otherwise."""

MEMORY = "4GB"  # of DuckDB, which goes on in files beyond it
