"""Make the embedded detector of the embedded CLIP: on scenes of stickers, as grounding/detector.yaml says.

What inserted tokens can announce here is which part of a sticker (card, ring, bar, dot) an expression is right about.
"""
