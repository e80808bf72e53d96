"""Pretrain video models that recognise the action, not the scene.

The commands are modules, such as ``python -m scenebias.pretrain``; see README.md.
"""
