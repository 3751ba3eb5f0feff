"""Recipes that make a small specialist: pretrain (demo bases), train (LoRA under Ray Train), evaluate (the gate).

Each runs alone on files: `python -m slmtrain.train --help`. Nothing here knows the operator; what they tell it is in
their JSON files. One recipe a file, to be read from top to bottom.
"""
