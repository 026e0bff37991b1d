"""The stream: training task by task, routing, and evaluation after every task."""
