"""How a service is set up, and what it allows."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from musiclm.core.engines import num_cores
from musiclm.generate.checks import MAX_DURATION_S, MIN_DURATION_S


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits are of one service, not of one client, but for `requests_per_minute`."""

    folder: Path  # where takes, uploads and the list of both are kept
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None  # that each request must bring; needed to be reached from other machines
    workers: int = 1  # pieces that are made at a time
    capacity: int = 8  # pieces that are made or wait; one more is refused
    max_duration_s: float = MAX_DURATION_S  # of new music a request
    max_sound_s: float = 1800.0  # of an upload, and of what goes on from something
    max_upload_mb: float = 64.0
    requests_per_minute: int = 240  # that ask for work or send something, from one client
    max_takes: int = 1000  # the oldest that nobody keeps and nothing goes on from makes room

    def __post_init__(self) -> None:
        if self.api_key is not None and len(self.api_key) < 8:
            raise ValueError("the API key has fewer than 8 characters; choose a longer one")
        if self.api_key is None and not is_local(self.host):
            raise ValueError(
                f"{self.host} can be reached from other machines, and no API key is set; set MUSICLM_API_KEY, "
                "or leave --host at 127.0.0.1"
            )
        if not 1 <= self.workers <= self.capacity:
            raise ValueError(
                f"{self.workers} pieces at a time with a capacity of {self.capacity}; the capacity must be as large"
            )
        if not MIN_DURATION_S <= self.max_duration_s <= MAX_DURATION_S:
            raise ValueError(
                f"--max-duration is {self.max_duration_s} s; "
                f"it must lie between {MIN_DURATION_S} s and {MAX_DURATION_S:.0f} s"
            )

    @property
    def max_upload_bytes(self) -> int:
        return round(self.max_upload_mb * 1e6)


def default_workers(device: str, threads: int | None, capacity: int) -> int:
    """As many as there are cores to use, but no more than two: each takes as much memory as the first."""
    cores = 1 if device != "cpu" else threads or num_cores()
    return min(2, cores, capacity)


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
