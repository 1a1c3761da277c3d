"""What a script prints, logs, raises and answers, turned into items."""
