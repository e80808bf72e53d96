"""Pretrain video models that recognise the action, not the scene.

The commands are modules: ``python -m scenebias.pretrain`` (under ``torchrun``), ``transfer``, ``evaluate`` and ``bias``.
"""
