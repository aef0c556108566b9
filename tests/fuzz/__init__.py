"""Every parser of foreign bytes, given bytes that nobody meant: by hypothesis, and by atheris."""
