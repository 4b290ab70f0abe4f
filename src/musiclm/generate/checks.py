"""What a prompt, a duration, a seed and a device may be. Checked before anything is loaded or made."""

import torch

from musiclm.core.unicode import typed_text

MIN_DURATION_S, MAX_DURATION_S = 0.5, 600.0
MAX_PROMPT_CHARACTERS = 10_000


def check_prompt(prompt: str) -> str:
    """The prompt without outer space, as text that can be stored (`musiclm.core.unicode.typed_text`).

    Raises ValueError if it is empty, longer than MAX_PROMPT_CHARACTERS or holds what no character is.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt must be text, got {type(prompt).__name__}")
    prompt = typed_text(prompt, "the prompt")
    if not prompt.strip():
        raise ValueError("the prompt is empty; describe the music, for example: a calm piano piece")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"the prompt has {len(prompt)} characters, more than {MAX_PROMPT_CHARACTERS}; shorten it")
    return prompt.strip()


def check_duration(duration_s: float) -> float:
    """The duration. Raises ValueError outside MIN_DURATION_S..MAX_DURATION_S, NaN included."""
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise ValueError(
            f"the duration is {duration_s} s; it must lie between {MIN_DURATION_S} s and {MAX_DURATION_S:.0f} s"
        )
    return float(duration_s)


def check_seed(seed: int) -> int:
    """The seed. Raises ValueError unless it is a whole number from 0 to 2^63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"the seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    return seed


def check_device(device: str) -> torch.device:
    """The device. Raises ValueError when this machine has none of the kind, or it holds no values (meta)."""
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"no device is called {device!r}; use cpu, cuda, cuda:1 or mps") from None
    try:
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device {device!r} is not available on this machine; use cpu") from None
    return found
