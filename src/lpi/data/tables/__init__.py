"""Tables of images and texts in the forms that people have; each file reads one form."""
