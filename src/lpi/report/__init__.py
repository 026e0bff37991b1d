"""What is shown in the end: summary and figures."""
