"""What somebody wants of the music besides its prompt, as settings of how codes are drawn: by options of a command or
fields of a request."""

import json
from collections.abc import Mapping
from typing import Any

from musiclm.core.config import override
from musiclm.generate.config import GenerateConfig
from musiclm.generate.session import MusicLM
from musiclm.generate.story import Story


def check_setting(name: str, value: Any) -> None:
    """Raises: ValueError for a value that the setting `name` of `GenerateConfig` can't have, whatever the bundle."""
    override(GenerateConfig(), [f"{name}={json.dumps(value)}"])


def wished(
    acoustic: str | None,
    levels: int | None,
    temperature: float | None,
    guidance: float | None,
    tempo_bpm: float | None,
    key: str | None,
    beat: float | None,
    again: float | None,
) -> dict[str, Any]:
    """What may be wished of any new music, by settings of `GenerateConfig`."""
    return {
        **{"acoustic": acoustic, "levels": levels, "semantic.temperature": temperature, "semantic.guidance": guidance},
        **{"steer.tempo_bpm": tempo_bpm, "steer.key_name": key, "steer.beat": beat, "steer.again": again},
    }


def configure(
    model: MusicLM,
    prompt: str | Story | None,
    wishes: Mapping[str, Any],
    coarse_temperature: float | None = None,
    fine_temperature: float | None = None,
    storm_temperature: float | None = None,
    *,
    base: GenerateConfig | None = None,
) -> GenerateConfig:
    """How a bundle is to draw codes: its own choice, or `base` (of a take), but for what is wished for.

    wishes: values by settings of `GenerateConfig`, such as "semantic.temperature"; None leaves the bundle's choice.

    Raises: ValueError for a value that a setting can't have, or that does nothing with this bundle.
    """
    said = {name: value for name, value in wishes.items() if value is not None}
    config = override(base or model.default_config(), [f"{name}={json.dumps(value)}" for name, value in said.items()])
    if not model.steering(config.steer, prompt or ""):
        for name in ("beat", "again"):
            if f"steer.{name}" in said:
                raise ValueError(
                    f"{name} does nothing with the bundle {model.bundle.name}: its tokens tell nothing of onsets"
                )
    config = model.with_temperatures(config, coarse_temperature, fine_temperature, storm_temperature)
    if "levels" in said and said["levels"] > (most := model.acoustic_decoder(config).levels):
        raise ValueError(f"levels is {said['levels']}; {config.acoustic} of the bundle {model.bundle.name} has {most}")
    return config
