"""Does debiasing help? The whole experiment, from rendering its data to the report, behind ``tools/study.sh``.

The demo, behind ``tools/demo.sh``, is a small study: one world, one seed, two arms.
"""
