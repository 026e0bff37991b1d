"""What methods have in common: their verbs, and the sets of prompts that several of them learn."""
