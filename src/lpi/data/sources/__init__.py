"""Data sets that are not part of the repository, brought into COCO's format."""
