"""``python -m scenebias.benchmark.gpu_check`` is ``tools/gpu_check.sh``."""

from scenebias.cli import start

if __name__ == "__main__":
    start("gpu-check")
