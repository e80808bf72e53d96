"""The arithmetic of evaluation: what is asked for inside, and torch's own settings after."""

import pytest
import torch

from scenebias.evaluation.precision import EvaluationPrecision, PrecisionConfig, computing_in

CPU = torch.device("cpu")


def settings() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("precision", "tf32", "dtype"),
    [("fp32", False, torch.float32), ("tf32", True, torch.float32), ("bf16", False, torch.bfloat16)],
)
def test_products_are_computed_as_asked_and_as_before_afterwards(
    precision: EvaluationPrecision, tf32: bool, dtype: torch.dtype
) -> None:
    before = settings()
    matrix = torch.rand(4, 4)
    with computing_in(precision, CPU):
        assert settings() == (tf32, tf32)
        assert (matrix @ matrix).dtype == dtype
    assert settings() == before
    with pytest.raises(KeyError), computing_in(precision, CPU):
        raise KeyError
    assert settings() == before
    assert (matrix @ matrix).dtype == torch.float32


def test_an_unknown_precision_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="eval_precision must be one of fp32, tf32, bf16, got 'fp8'"):
        PrecisionConfig(eval_precision="fp8")  # type: ignore[arg-type]
