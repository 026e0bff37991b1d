"""Frozen detectors that take prompts, by name. A family of detectors is one file here."""
