"""From photographs to layered samples: `text2layer dataset build`.

A photo runs through stages in order (`stages.py`): decode -> saliency -> rules -> mask quality ->
agreement -> foreground -> background -> fill quality -> pair quality. Most stages can reject it,
with a reason. What is kept becomes shards in the project's schema.
"""
