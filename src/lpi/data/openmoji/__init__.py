"""OpenMoji Scenes: the embedded data set, rendered from the OpenMoji font (CC BY-SA 4.0)."""
