"""What Prometheus reads."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._jobs = Counter(
            "musiclm_jobs", "Pieces that ended, by verb and how.", ["verb", "state"], registry=self.registry
        )
        self._refused = Counter("musiclm_refused", "Requests refused, by reason.", ["reason"], registry=self.registry)
        self._music_s = Counter("musiclm_music_seconds", "Seconds of sound made.", registry=self.registry)
        self._work_s = Counter("musiclm_work_seconds", "Seconds that workers were at it.", registry=self.registry)
        self.first_sound_s = Histogram(
            "musiclm_first_sound_seconds",
            "From the beginning of the work to the first sound.",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 2, 5, 10),
            registry=self.registry,
        )

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A figure that is looked up when it is asked for."""
        Gauge(f"musiclm_{name}", meaning, registry=self.registry).set_function(value)

    def ended(self, verb: str, state: str, work_s: float, music_s: float) -> None:
        self._jobs.labels(verb, state).inc()
        self._work_s.inc(work_s)
        self._music_s.inc(music_s)

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()
