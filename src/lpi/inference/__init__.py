"""A trained stream at work on pictures and texts of one's own: `Retriever`, `Grounder`."""
