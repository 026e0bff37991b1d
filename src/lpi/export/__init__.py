"""What a run has learned as a folder that works elsewhere: files, model card, upload."""
