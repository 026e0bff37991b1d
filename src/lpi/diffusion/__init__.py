"""Diff-Prompt (Yan et al., ICLR 2025): masks of what is meant, drawn by a diffusion model, for prompts."""
