"""The frozen model: loading it by name, and pre-training the embedded one."""
