"""The layouts that carry telemetry, each a module of pure functions over bytes."""
