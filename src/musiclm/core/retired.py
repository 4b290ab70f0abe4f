"""What earlier versions of musiclm made and this one no longer reads, and how that is said in a line.

`base` v0 to v7 had a codec of another network, and semantic tokens that go with it. What was made with them, bundles,
codecs, tokens, takes and files of codes, is refused by the name of that network or by the hash of those codes.
"""

from collections.abc import Mapping
from typing import Any

LAST_REVISION = "503dd7c"  # of musiclm, that reads all of it
RETIRED_NETWORKS = ("spectrogram", "stft")  # of codecs
# of codecs' configurations, whatever their network, that were written when there were those networks
RETIRED_FIELDS = {
    *("n_fft", "hop", "stride", "fast_width", "slow_width", "fast_blocks", "slow_blocks"),
    *("tonal_bins", "phase_iterations", "normalize_latent"),
}
# which encoders gave the codes of a hash (`musiclm.core.artifact.codes_hash`)
RETIRED_ENCODERS = {
    "294ccb6cc733b0fa9b83b0d821998cd401ea5c79848fcf7b7cf0db05d8a41df3": "the codec of base v0",
    "842534452bd42d8ea178216ef719c4f0dcd7020e08a1c31378ac070ede849a5c": "the codec of base v1",
    "e401ed79ebfa3ea2ea09bbad43e9b8f675cda493d2754ebceaf50bde0b6c0ce9": "the codec of base v2 to v7",
    "55d59b112f1582d0f24ef124fc8a5f98229d3c2f3657a46b7902775c3a8b1a99": "the codec that came beside base v7",
    "f7f7cecb5bdff7dfed7ea8032b0c9df5ad4a7508ca8a3d6deec2d0a710ed2fef": "the semantic encoder of base v0",
    "07e8653f689bb53f7b0fb31c43388dab6a35cd4c575dac268ffb406abc974b7f": "the semantic encoder of base v1",
    "64e78eb4d0dca2578902dd5028431fb78dd205b9f3799aec026b09115200ab42": "the semantic encoder of base v2 to v5",
    "a9b0b6eaec4c76e2a79a7f756f1c2b74aeab932a85b467788712efd8c9f81da9": "the semantic encoder of base v6 and v7",
}


def retired_model(document: Mapping[str, Any]) -> str:
    """What a `config.json` says that this version can't build, and what to do; "" of anything else."""
    config = document["config"]
    network = config.get("network") if isinstance(config, Mapping) else None
    if document["kind"] != "soundstream" or network not in RETIRED_NETWORKS:
        return ""
    return (
        f"a codec with the network {network!r}, as base v7 and before had it, which this version of musiclm no longer "
        f"reads; check out revision {LAST_REVISION}, the last that does, or train anew"
    )


def retired_codes(hashes: Mapping[str, str] | str, remedy: str) -> str:
    """Which retired encoder made codes, the first of several, and what to do: `remedy`, or an old revision; "" if none
    did."""
    for digest in [hashes] if isinstance(hashes, str) else hashes.values():
        if digest in RETIRED_ENCODERS:
            return (
                f"made with {RETIRED_ENCODERS[digest]}, which this version of musiclm no longer has; {remedy}, or "
                f"check out revision {LAST_REVISION}, the last that has it"
            )
    return ""
