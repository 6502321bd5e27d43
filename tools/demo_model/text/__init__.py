"""Generators of the demo model's training dialogues: everything in them is made here, from a seed."""
