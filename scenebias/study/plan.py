"""Which runs the study consists of, and where they lie."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from scenebias.demo.render_takes import TakesSize
from scenebias.demo.world import WorldConfig, WorldSize
from scenebias.study.arms import (
    ARMS,
    BASELINE,
    BASELINE_LONG,
    BEST,
    GRIDS,
    PAPER,
    QUICK_ARMS,
    SWAP,
    Arm,
    Method,
    Tuned,
    Weights,
    arm_named,
)
from scenebias.study.data.demo_world import BALANCED, World
from scenebias.study.data.jhmdb import CLIP, SPLITS, JhmdbConfig, PackJhmdb, PackReal, Part, Split
from scenebias.study.data.long_takes import LongTakes
from scenebias.study.data.tied_scenes import PackTied
from scenebias.study.takes_jobs import TransferToTakes
from scenebias.study.training_jobs import PretrainJob, TransferJob
from shards.checks import require_at_least

USUAL_RHO = 0.8
OTHER_RHOS = (0.5, 0.95)
TUNING_SEED = 1000
"""The first seed of the worlds that tuning uses."""
ORACLE, SCRATCH = "oracle", "scratch"
RHO_ARMS = TAKES_ARMS = (BASELINE_LONG, PAPER, BEST)
JHMDB_ARMS = (BASELINE, PAPER, SWAP, BEST)
JHMDB_STARTS = (SCRATCH, *JHMDB_ARMS)
TIED_WORLD = "jhmdb-tied"
"""What results call JHMDB divided so that scene and action are tied."""
QUICK_SEEDS, QUICK_EPOCHS = 2, 24


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What to run, and where."""

    out: Path
    """Folder of the study; the same command goes on with what is missing in it."""
    quick: bool = False
    """Two seeds of a few arms for 24 epochs, with the weights of the reported study: half an hour."""
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)
    """The arms to train, of those that the study knows."""
    seeds: int = 8
    """Seeds of every arm on the demo world: of the world, the initial weights, order and augmentation."""
    other_rho_seeds: int = 4
    """Seeds of the arms that are also trained where ρ is another."""
    takes_seeds: int = 3
    """Seeds of the arms whose weights are also transferred to localising and detecting in long takes."""
    tuning_seeds: int = 3
    """Seeds of every candidate; 0: the weights of the reported study are taken over."""
    epochs: int = 40
    """Epochs of pretraining on a demo world."""
    workers: int | None = None
    """Runs side by side; by default one for each CPU core."""
    world: WorldSize = field(default_factory=WorldSize)
    takes: TakesSize = field(default_factory=TakesSize)
    jhmdb: JhmdbConfig = field(default_factory=JhmdbConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= TUNING_SEED:
            raise ValueError(f"seeds must be from 1 to {TUNING_SEED}, got {self.seeds}")
        known = [arm.name for arm in ARMS]
        if not self.arms or not set(self.arms) <= set(known):
            raise ValueError(f"arms must be of {', '.join(known)}, got {', '.join(self.arms) or 'none'}")
        require_at_least(
            0,
            other_rho_seeds=self.other_rho_seeds,
            takes_seeds=self.takes_seeds,
            tuning_seeds=self.tuning_seeds,
        )
        require_at_least(1, epochs=self.epochs, workers=self.workers)

    def scaled(self) -> "StudyConfig":
        """What is done: the options, or where ``quick`` says so, less."""
        if not self.quick:
            return self
        less = replace(self, arms=QUICK_ARMS, epochs=QUICK_EPOCHS, other_rho_seeds=0, takes_seeds=0, tuning_seeds=0)
        return replace(less, seeds=QUICK_SEEDS)


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one model is made, by the names that results are given under: pretrained, transferred, or both."""

    world: str
    """The data: the name of a demo world, or `jhmdb_world`."""
    arm: str
    seed: int
    pretraining: PretrainJob | None
    """None: it is trained from scratch."""
    transfer: TransferJob | None = None
    """All layers, tuned to other classes."""
    head_transfer: TransferJob | None = None
    """A new head alone, on the frozen backbone."""
    demo_world: World | None = None
    """The world that it is pretrained in, where that is a demo world."""
    tied: PackTied | None = None
    """The clips that it is trained on, where scene and action are tied in real ones."""

    @property
    def last(self) -> PretrainJob | TransferJob:
        """The training that it ends with, in whose folder its measures lie."""
        last = self.transfer or self.pretraining
        assert last is not None, "a model is trained at least once"
        return last


def pretrain_jobs(runs: Iterable[Run]) -> list[PretrainJob]:
    """The jobs that pretrain the models of ``runs``."""
    return [run.pretraining for run in runs if run.pretraining is not None]


def transfer_jobs(runs: Iterable[Run]) -> list[TransferJob]:
    """The jobs that transfer them."""
    return [job for run in runs for job in (run.transfer, run.head_transfer) if job is not None]


def jhmdb_world(split: Split) -> str:
    """What results call a split of JHMDB."""
    return f"jhmdb-split{split}"


def world_name(rho: float) -> str:
    """What results call the demo worlds of that ρ."""
    return f"demo-rho-{rho}" if rho != BALANCED else "demo-balanced"


TAKES_WORLD = f"long-takes-rho-{USUAL_RHO}"
"""What results call the long takes."""
USUAL_WORLD, BALANCED_WORLD = world_name(USUAL_RHO), world_name(BALANCED)


@dataclass(frozen=True)
class Plan:
    """Everything that follows from the options."""

    config: StudyConfig
    """Scaled: see `StudyConfig.scaled`."""

    def world(self, rho: float, seed: int) -> World:
        """The world of that ρ and seed; its people and places follow from the seed alone."""
        config = WorldConfig(rho=rho, seed=seed, **asdict(self.config.world))
        return World(world_name(rho), self.config.out / "worlds" / world_name(rho) / f"seed-{seed}", config)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Those that are trained."""
        return tuple(arm for arm in ARMS if arm.name in self.config.arms)

    def worlds(self) -> list[World]:
        """All demo worlds, each once."""
        runs = [*self.oracles(), *self.tuning_baselines(), *self.demo_runs(Weights())]
        worlds = {run.demo_world.folder: run.demo_world for run in runs if run.demo_world is not None}
        return list(worlds.values())

    def _demo_run(self, world: World, arm: str, method: Method, times_longer: int = 1) -> Run:
        seed = world.config.seed
        pretraining = PretrainJob(
            folder=self.config.out / "runs" / world.name / arm / f"seed-{seed}",
            train=world.shards("train"),
            val=world.shards("test"),
            epochs=times_longer * self.config.epochs,
            seed=seed,
            method=method,
        )
        return Run(world=world.name, arm=arm, seed=seed, pretraining=pretraining, demo_world=world)

    def oracles(self) -> list[Run]:
        """Baselines where the scene says nothing of the action: what can be learned at all."""
        baseline = arm_named(BASELINE).method(Weights())
        return [self._demo_run(self.world(BALANCED, seed), ORACLE, baseline) for seed in range(self.config.seeds)]

    def _tuning_worlds(self) -> list[World]:
        """Of other people, scenes and clips than the worlds that results are of."""
        return [self.world(USUAL_RHO, TUNING_SEED + number) for number in range(self.config.tuning_seeds)]

    def tuning_baselines(self) -> list[Run]:
        """What the candidates may not lose much against."""
        arm = arm_named(BASELINE)
        return [self._demo_run(world, arm.name, arm.method(Weights())) for world in self._tuning_worlds()]

    def candidates(self) -> dict[Tuned, dict[float, list[Run]]]:
        """Every value of every weight that is tuned, with its arm; none where nothing is tuned."""
        if not self.config.tuning_seeds:
            return {}
        return {
            arm.tuned: {
                value: [
                    self._demo_run(world, f"{arm.name}-{value}", arm.method(replace(Weights(), **{arm.tuned: value})))
                    for world in self._tuning_worlds()
                ]
                for value in GRIDS[arm.tuned]
            }
            for arm in ARMS
            if arm.tuned is not None
        }

    def demo_runs(self, weights: Weights) -> list[Run]:
        """Every arm at the usual ρ, then some at others; all arms of a seed before those of the next."""
        usual = [(self.world(USUAL_RHO, seed), arm) for seed in range(self.config.seeds) for arm in self.arms]
        others = [
            (self.world(rho, seed), arm_named(name))
            for seed in range(self.config.other_rho_seeds)
            for rho in OTHER_RHOS
            for name in RHO_ARMS
        ]
        return [self._demo_run(world, arm.name, arm.method(weights), arm.times_longer) for world, arm in usual + others]

    def long_takes(self) -> LongTakes | None:
        """Long takes; None where nothing is transferred to them."""
        if not self.config.takes_seeds:
            return None
        return LongTakes(TAKES_WORLD, self.config.out / "worlds" / TAKES_WORLD, USUAL_RHO, self.config.takes)

    def takes_jobs(self, demo_runs: Iterable[Run]) -> list[TransferToTakes]:
        """What transfers the models of ``demo_runs`` to them."""
        takes = self.long_takes()
        if takes is None:
            return []
        chosen = [
            run
            for run in demo_runs
            if run.world == USUAL_WORLD and run.arm in TAKES_ARMS and run.seed < self.config.takes_seeds
        ]
        return [
            TransferToTakes(
                folder=self.config.out / "runs" / takes.name / run.arm / f"seed-{run.seed}",
                takes=takes,
                arm=run.arm,
                seed=run.seed,
                weights=run.pretraining.weights,
            )
            for run in chosen
            if run.pretraining is not None
        ]

    def data_jobs(self) -> dict[tuple[str, int], tuple[Path, Path]]:
        """The training and test clips that models are pretrained on, by world and seed."""
        pairs = {
            (world.name, world.config.seed): (world.shards("train"), world.shards("test"))
            for world in self.worlds()
            if world.config.seed < TUNING_SEED
        }
        pairs |= {
            (jhmdb_world(split), 0): (pack.shards("train"), pack.shards("test"))
            for (part, split), pack in self.jhmdb_packs().items()
            if part == "pretrain"
        }
        if (tied := self.tied_pack()) is not None:
            pairs[TIED_WORLD, 0] = tied.shards("train"), tied.shards("usual")
        return pairs

    def jhmdb_packs(self) -> dict[tuple[Part, Split], PackJhmdb]:
        """JHMDB's data sets; none where JHMDB was not given."""
        source = self.config.jhmdb
        if source.jhmdb_videos is None:
            return {}
        parts: tuple[Part, ...] = ("pretrain", "transfer")
        return {
            (part, split): PackJhmdb(self.config.out / "jhmdb" / f"{part}-{split}", source, part, split)
            for part in parts
            for split in SPLITS
        }

    def tied_pack(self) -> PackTied | None:
        """JHMDB with scene and action tied; None where JHMDB was not given."""
        source = self.config.jhmdb
        return None if source.jhmdb_videos is None else PackTied(self.config.out / "jhmdb" / "tied", source)

    def real_packs(self) -> list[PackReal]:
        """All data sets of JHMDB's clips."""
        tied = self.tied_pack()
        return [*self.jhmdb_packs().values(), *([] if tied is None else [tied])]

    def _real_pretraining(
        self, world: str, pack: PackReal, val: str, arm: str, weights: Weights, seed: int
    ) -> PretrainJob:
        """An arm on clips of JHMDB, evaluated on the subset ``val``."""
        return PretrainJob(
            folder=self.config.out / "runs" / world / arm / f"seed-{seed}",
            train=pack.shards("train"),
            val=pack.shards(val),
            epochs=self.config.jhmdb.jhmdb_epochs,
            clip=CLIP,
            seed=seed,
            method=arm_named(arm).method(weights),
        )

    def tied_runs(self, weights: Weights) -> list[Run]:
        """Every arm with every seed, where scene and action are tied."""
        source, tied = self.config.jhmdb, self.tied_pack()
        if tied is None:
            return []
        return [
            Run(
                world=TIED_WORLD,
                arm=arm,
                seed=seed,
                pretraining=self._real_pretraining(TIED_WORLD, tied, "usual", arm, weights, seed),
                tied=tied,
            )
            for seed in range(source.jhmdb_seeds)
            for arm in JHMDB_ARMS
        ]

    def jhmdb_runs(self, weights: Weights) -> list[Run]:
        """Every start on every split with every seed."""
        packs = self.jhmdb_packs()
        if not packs:
            return []
        return [
            self._jhmdb_run(packs, weights, start, split, seed)
            for seed in range(self.config.jhmdb.jhmdb_seeds)
            for split in SPLITS
            for start in JHMDB_STARTS
        ]

    def _jhmdb_run(
        self,
        packs: Mapping[tuple[Part, Split], PackJhmdb],
        weights: Weights,
        start: str,
        split: Split,
        seed: int,
    ) -> Run:
        source, folder = self.config.jhmdb, self.config.out / "runs" / jhmdb_world(split)
        pretraining = None
        if start != SCRATCH:
            pack = packs["pretrain", split]
            pretraining = self._real_pretraining(jhmdb_world(split), pack, "test", start, weights, seed)
        pack = packs["transfer", split]

        def transfer(name: str, *, head_only: bool) -> TransferJob:
            return TransferJob(
                folder=folder / f"{start}-{name}" / f"seed-{seed}",
                train=pack.shards("train"),
                val=pack.shards("test"),
                epochs=source.transfer_epochs,
                clip=CLIP,
                seed=seed,
                start=None if pretraining is None else pretraining.weights,
                head_only=head_only,
            )

        return Run(
            world=jhmdb_world(split),
            arm=start,
            seed=seed,
            pretraining=pretraining,
            transfer=transfer("transfer", head_only=False),
            head_transfer=None if pretraining is None else transfer("head", head_only=True),
        )
