"""How much `musiclm evaluate` measures."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How much is measured."""

    num_prompts: int | None = None  # spread over the file; None: all
    num_real: int = 100  # held-out clips, half of them the reference
    num_seed_prompts: int = 8  # prompts made with several seeds
    seeds_per_prompt: int = 3  # beside the one of every prompt
    num_long: int = 16  # clips of `long_s`
    num_codec: int = 20
    num_memorisation: int = 64
    num_training: int = 600  # training tracks among which copies of generated clips are looked for
    num_probe: int = 160  # training clips that probes learn from; a third as many held-out ones test them
    clip_s: float = 10.0
    long_s: float = 40.0
    probe_s: float = 8.0  # length of a clip that probes learn from
    seed: int = 0

    @classmethod
    def quick(cls) -> "EvaluateConfig":
        """Ends in some ten minutes on two cores.

        Fewer of everything: intervals are wider, and the memorisation threshold rests on 480 pairs.
        """
        return cls(
            num_prompts=60,
            num_real=60,
            num_seed_prompts=4,
            seeds_per_prompt=2,
            num_long=4,
            num_codec=8,
            num_memorisation=16,
            num_training=100,
            num_probe=48,
        )
