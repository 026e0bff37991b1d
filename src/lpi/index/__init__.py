"""An index of the images of a folder, on disk."""
