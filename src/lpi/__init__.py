"""LPI: low-rank prompt interaction for continual vision-language retrieval."""

__version__ = "0.1.0"
