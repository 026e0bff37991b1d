"""The command `lpi`: each of its verbs is one file here."""
