"""From photographs to layered samples: `text2layer dataset build`.

A photo runs through stages in order (`stages.py`): decode -> saliency -> foreground -> background
-> scores -> keep or reject with a reason. What stays becomes shards in the project's schema.
"""
