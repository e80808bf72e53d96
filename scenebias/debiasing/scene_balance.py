"""How scenes and actions go together in the training clips: what a scene adversary is measured against.

Shape suffixes: N clips, A actions, S scene categories.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from scenebias.data.datasets import count_combinations


@dataclass(frozen=True, eq=False)
class SceneBalance:
    """Of training clips, each counted in its likeliest scene."""

    chance: float
    """Share of the commonest scene: what names so many scenes rightly without a look."""
    from_action: float
    """Share of the clips whose scene is the commonest of their action: what the action alone tells. A scene head that
    is right as often, or more often, has not been made to fail."""
    weight_AS: np.ndarray
    """float64, proportional to 1 / P(scene | action), of mean 1 over the clips of each action; 0 where none are."""

    @classmethod
    def of(cls, label_N: np.ndarray, scene_NS: np.ndarray, actions: int) -> Self:
        """From int64 action labels and soft scene labels."""
        labels = np.asarray(label_N, dtype=np.int64)
        count_AS = count_combinations(labels, scene_NS.argmax(axis=1), actions, scene_NS.shape[1])
        occurs_AS = count_AS > 0
        # Of mean 1 in an action: each of its scenes gets the same share of its clips' weight.
        even_A1 = count_AS.sum(axis=1, keepdims=True) / occurs_AS.sum(axis=1, keepdims=True).clip(min=1)
        return cls(
            chance=float(count_AS.sum(axis=0).max() / len(labels)),
            from_action=float(count_AS.max(axis=1).sum() / len(labels)),
            weight_AS=np.where(occurs_AS, even_A1 / count_AS.clip(min=1), 0.0),
        )
