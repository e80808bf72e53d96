"""Which runs the study consists of, and where they lie."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scenebias.demo.world import WorldConfig, WorldSize
from scenebias.study.arms import ARMS, BASELINE, arm_named
from scenebias.study.demo_world import BALANCED, World
from scenebias.study.jhmdb import CLIP, SPLITS, JhmdbConfig, PackJhmdb, Part, Split
from scenebias.study.training_jobs import PretrainJob, TransferJob
from scenebias.training.objective import ObjectiveConfig
from shards.checks import require_at_least

USUAL_RHO = 0.8
OTHER_RHOS = (0.5, 0.95)
WORLD_SEED, TUNING_SEED = 0, 1000
ORACLE, SCRATCH = "oracle", "scratch"
RHO_ARMS = (BASELINE, "both")
JHMDB_ARMS = (BASELINE, "both")
JHMDB_STARTS = (SCRATCH, *JHMDB_ARMS)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What to run, and where."""

    out: Path
    """Folder of the study; the same command goes on with what is missing in it."""
    seeds: int = 5
    """Seeds of every arm on the demo world: initial weights, order and augmentation."""
    epochs: int = 24
    """Epochs of pretraining on a demo world."""
    workers: int | None = None
    """Runs side by side; by default one for each CPU core."""
    world: WorldSize = field(default_factory=WorldSize)
    jhmdb: JhmdbConfig = field(default_factory=JhmdbConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= TUNING_SEED:
            raise ValueError(f"seeds must be from 1 to {TUNING_SEED}, got {self.seeds}")
        require_at_least(1, epochs=self.epochs, workers=self.workers)


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
    demo_world: World | None = None
    """The world that it is pretrained in, where that is a demo world."""

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
    return [run.transfer for run in runs if run.transfer is not None]


def jhmdb_world(split: Split) -> str:
    """What results call a split of JHMDB."""
    return f"jhmdb-split{split}"


@dataclass(frozen=True)
class Plan:
    """Everything that follows from the options."""

    config: StudyConfig

    def world(self, rho: float, seed: int = WORLD_SEED) -> World:
        """The world of that ρ; its people and places follow from ``seed``."""
        name = f"demo-rho-{rho}" if rho != BALANCED else "demo-balanced"
        name = f"{name}-tuning" if seed == TUNING_SEED else name
        config = WorldConfig(rho=rho, seed=seed, **asdict(self.config.world))
        return World(name, self.config.out / "worlds" / name, config)

    @property
    def usual_world(self) -> World:
        """The one that all arms are compared in."""
        return self.world(USUAL_RHO)

    @property
    def tuning_world(self) -> World:
        """Other people, scenes and clips than in the worlds that results are of."""
        return self.world(USUAL_RHO, TUNING_SEED)

    @property
    def worlds(self) -> list[World]:
        """All demo worlds; those that results are of show the same people and places, matched up differently."""
        return [self.world(rho) for rho in (BALANCED, USUAL_RHO, *OTHER_RHOS)] + [self.tuning_world]

    def _demo_run(self, world: World, seed: int, arm: str, objective: ObjectiveConfig, times_longer: int = 1) -> Run:
        pretraining = PretrainJob(
            folder=self.config.out / "runs" / world.name / arm / f"seed-{seed}",
            train=world.shards("train"),
            val=world.shards("test"),
            epochs=times_longer * self.config.epochs,
            seed=seed,
            objective=objective,
        )
        return Run(world=world.name, arm=arm, seed=seed, pretraining=pretraining, demo_world=world)

    def oracles(self) -> list[Run]:
        """Baselines where the scene says nothing of the action: what can be learned at all."""
        baseline = arm_named(BASELINE).candidates[0]
        return [self._demo_run(self.world(BALANCED), seed, ORACLE, baseline) for seed in range(self.config.seeds)]

    def candidates(self) -> dict[str, list[Run]]:
        """The candidates of every arm that is tuned, and the baseline, on the world that tuning uses."""
        tuned = [arm for arm in ARMS if len(arm.candidates) > 1 or arm.name == BASELINE]
        return {
            arm.name: [
                self._demo_run(self.tuning_world, TUNING_SEED, f"{arm.name}-candidate-{number}", objective)
                for number, objective in enumerate(arm.candidates)
            ]
            for arm in tuned
        }

    def demo_runs(self, chosen: Mapping[str, ObjectiveConfig]) -> list[Run]:
        """Every arm at the usual ρ, then some at others."""
        seeds = range(self.config.seeds)
        usual = [(self.world(USUAL_RHO), arm) for arm in ARMS]
        others = [(self.world(rho), arm_named(name)) for rho in OTHER_RHOS for name in RHO_ARMS]
        return [
            self._demo_run(world, seed, arm.name, arm.objective(chosen), arm.times_longer)
            for world, arm in usual + others
            for seed in seeds
        ]

    def pretraining_data(self) -> dict[str, tuple[Path, Path]]:
        """The training and test clips that models are pretrained on, by world."""
        pairs = {world.name: (world.shards("train"), world.shards("test")) for world in self.worlds}
        return pairs | {
            jhmdb_world(split): (pack.shards("train"), pack.shards("test"))
            for (part, split), pack in self.jhmdb_packs().items()
            if part == "pretrain"
        }

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

    def jhmdb_runs(self, chosen: Mapping[str, ObjectiveConfig]) -> list[Run]:
        """Every start on every split with every seed."""
        packs = self.jhmdb_packs()
        if not packs:
            return []
        return [
            self._jhmdb_run(packs, chosen, start, split, seed)
            for seed in range(self.config.jhmdb.jhmdb_seeds)
            for split in SPLITS
            for start in JHMDB_STARTS
        ]

    def _jhmdb_run(
        self,
        packs: Mapping[tuple[Part, Split], PackJhmdb],
        chosen: Mapping[str, ObjectiveConfig],
        start: str,
        split: Split,
        seed: int,
    ) -> Run:
        source, folder = self.config.jhmdb, self.config.out / "runs" / jhmdb_world(split)
        pretraining = None
        if start != SCRATCH:
            pack = packs["pretrain", split]
            pretraining = PretrainJob(
                folder=folder / start / f"seed-{seed}",
                train=pack.shards("train"),
                val=pack.shards("test"),
                epochs=source.jhmdb_epochs,
                clip=CLIP,
                seed=seed,
                objective=arm_named(start).objective(chosen),
            )
        pack = packs["transfer", split]
        transfer = TransferJob(
            folder=folder / f"{start}-transfer" / f"seed-{seed}",
            train=pack.shards("train"),
            val=pack.shards("test"),
            epochs=source.transfer_epochs,
            clip=CLIP,
            seed=seed,
            start=None if pretraining is None else pretraining.weights,
        )
        return Run(world=jhmdb_world(split), arm=start, seed=seed, pretraining=pretraining, transfer=transfer)
