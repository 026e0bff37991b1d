"""Referring expressions: how good the boxes are that a detector finds for expressions, over a stream of tasks."""
