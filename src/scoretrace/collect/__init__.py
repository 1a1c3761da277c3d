"""Collecting what goes into a model and what comes out: `ModelDataCollector` as CSV, `Collector` as JSON lines."""
