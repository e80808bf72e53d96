"""When a GPU idles in a trace of torch's profiler, and what the program does meanwhile."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
HOST_WORK = ("cpu_op", "cuda_runtime", "cuda_driver", "user_annotation")
STEP_NAME = "ProfilerStep"
"""Begins the name of what the profiler writes around a step."""
NAMED_GAPS = 300
"""The longest are looked at one by one."""
Event = dict[str, Any]
"""As in a Chrome trace: name, cat, ts and dur in microseconds."""


@dataclass(frozen=True)
class IdleTime:
    """How a GPU idles."""

    traced_s: float
    """From the first step's begin to the last one's end."""
    idle_share: float
    """Of that time, in which no stream of the GPU has work."""
    gap_s: dict[str, float]
    """Seconds of the longest gaps, summed up by what the program does meanwhile, the most first."""


def find_idle_time(events: Sequence[Event]) -> IdleTime | None:
    """The idle time of a trace; None where it has no work of a GPU."""
    timed = [event for event in events if event.get("ph") == "X"]
    work_K2 = _spans([event for event in timed if event.get("cat") in GPU_WORK])
    if not len(work_K2):
        return None
    host = [event for event in timed if event.get("cat") in HOST_WORK]
    steps_K2 = _spans([event for event in host if event["name"].startswith(STEP_NAME)])
    around_K2 = steps_K2 if len(steps_K2) else work_K2
    begin, end = around_K2[:, 0].min(), around_K2[:, 1].max()
    gaps_G2 = _gaps(work_K2, begin, end)
    lengths_G = gaps_G2[:, 1] - gaps_G2[:, 0]
    host = [event for event in host if not event["name"].startswith(STEP_NAME)]
    host_K2 = _spans(host)
    gap_us: defaultdict[str, float] = defaultdict(float)
    for number in np.argsort(-lengths_G)[:NAMED_GAPS].tolist():
        gap_us[_meanwhile(gaps_G2[number], host, host_K2)] += float(lengths_G[number])
    longest_first = sorted(gap_us.items(), key=lambda item: -item[1])
    return IdleTime(
        traced_s=float(end - begin) / 1e6,
        idle_share=float(lengths_G.sum() / (end - begin)),
        gap_s={name: length / 1e6 for name, length in longest_first},
    )


def _spans(events: Sequence[Event]) -> NDArray[np.float64]:
    """Begin and end of each, (K, 2)."""
    return np.array([(event["ts"], event["ts"] + event["dur"]) for event in events], np.float64).reshape(-1, 2)


def _gaps(work_K2: NDArray[np.float64], begin: float, end: float) -> NDArray[np.float64]:
    """What of the time from ``begin`` to ``end`` no span covers, (G, 2)."""
    work_K2 = work_K2[np.argsort(work_K2[:, 0])].clip(begin, end)
    ended_K = np.maximum.accumulate(np.concatenate([[begin], work_K2[:, 1]]))
    gaps_G2 = np.column_stack([ended_K, np.concatenate([work_K2[:, 0], [end]])])
    return gaps_G2[gaps_G2[:, 1] > gaps_G2[:, 0]]


def _meanwhile(gap_2: NDArray[np.float64], host: Sequence[Event], host_K2: NDArray[np.float64]) -> str:
    """The shortest of what the program does for half of the gap or more; what torch does not see is Python."""
    begin, end = gap_2
    overlap_K = np.minimum(host_K2[:, 1], end) - np.maximum(host_K2[:, 0], begin)
    (covering,) = (overlap_K >= (end - begin) / 2).nonzero()
    if not len(covering):
        return "Python, or waiting for data"
    lengths_K = host_K2[covering, 1] - host_K2[covering, 0]
    return str(host[covering[lengths_K.argmin()]]["name"])
