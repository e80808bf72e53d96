"""Does debiasing help? The whole experiment, from rendering its data to the report, behind ``tools/study.sh``."""
