"""What trains: this machine, or the nodes of a Ray cluster. Imports no torch, as the command's options need it."""

from dataclasses import dataclass

from study.errors import require, require_known

ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where trainings run, how many at a time, and on what."""

    name: str = "local"
    """`local` or `ray`."""
    address: str = ""
    """HOST:PORT of the Ray cluster; empty or `auto`: the one that this machine is a node of."""
    gpus_per_trial: float = 0.0
    """GPUs of each training on Ray: up to 1, or a whole number; 0: it trains on CPUs."""
    workers: int = 0
    """Number of trainings at a time; 0: as many as the cluster has room for."""

    def __post_init__(self) -> None:
        require_known("engine", self.name, ENGINES)
        gpus = self.gpus_per_trial
        require(
            0 <= gpus <= 1 or (gpus > 1 and gpus.is_integer()),
            f"GPUs per trial is {gpus:g}: it must be from 0 to 1, or a whole number.",
        )
        if self.name != "ray":
            require(not self.address, f"--address {self.address} is that of a Ray cluster: it needs --engine ray.")
            require(not gpus, f"--gpus-per-trial {gpus:g} needs --engine ray.")


LOCAL = EngineConfig()
