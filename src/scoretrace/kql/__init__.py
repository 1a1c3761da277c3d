"""Kusto Query Language as DuckDB SQL: parsed, typed and named as Azure does it, or refused with its place."""
