"""Referring expressions: pictures in which an expression names one object, whose box is known."""
