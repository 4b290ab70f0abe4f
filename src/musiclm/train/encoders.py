"""Encoders made by others into the places of ours in RUNS: `RUNS/soundstream`, `RUNS/w2vbert` and `RUNS/mulan`.

The codec is taken as it is. To a semantic encoder k-means is fitted, to a joint embedding means and a quantizer, on the
training tracks of a corpus.
"""

from pathlib import Path

import numpy as np
import torch

from musiclm.core.artifact import CONFIG_FILE, ArtifactError
from musiclm.core.streams import ACOUSTIC, ENCODER_OF, MULAN, SEMANTIC
from musiclm.data.corpus.clips import ClipSampler, read_clip
from musiclm.data.corpus.manifest import CorpusError, load_manifest
from musiclm.listen.tagger import MTT_TAGS
from musiclm.models.encoders import is_foreign
from musiclm.models.foreign.codec import KIND as CODEC_KIND
from musiclm.models.foreign.codec import ForeignCodec
from musiclm.models.foreign.joint import KIND as JOINT_KIND
from musiclm.models.foreign.joint import ForeignJoint
from musiclm.models.foreign.semantic import KIND as SEMANTIC_KIND
from musiclm.models.foreign.semantic import ForeignSemantic, num_fit_clips
from musiclm.train.card import describe_data

STREAM_OF = {"acoustic": ACOUSTIC.name, "semantic": SEMANTIC.name, "joint": MULAN.name}
FIT_CLIP_S = 10.0
FIT_TRACK_S = 30.0  # of the middle of each track, for a joint embedding: 21 windows
MOST_FIT_TRACKS = 2000


def add_encoder(
    kind: str,
    name: str,
    runs: Path,
    *,
    data: Path | None = None,
    levels: int | None = None,
    codebook_size: int | None = None,
    layer: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Puts an encoder, by folder or hub id, in its place in RUNS; the folder of its artifact.

    data: a corpus, which semantic and joint encoders are fitted on. levels: of a codec, or of the quantizer of a joint
    embedding. codebook_size: of a semantic or joint encoder, 1024 by default. layer: of a semantic encoder.

    Raises: ValueError for a setting that the kind does not have, or a model that does not suit; ArtifactError if the
    model can't be had or the place is taken by another; CorpusError without training tracks.
    """
    if kind not in STREAM_OF:
        raise ValueError(f"no kind of encoder {kind!r}; there are {', '.join(STREAM_OF)}")
    given = {"--levels": levels, "--codebook-size": codebook_size, "--layer": layer, "--data": data}
    unread = {"acoustic": ("--codebook-size", "--layer", "--data"), "semantic": ("--levels",), "joint": ("--layer",)}
    for option in unread[kind]:
        if given[option] is not None:
            raise ValueError(f"{option} does nothing here: a {kind} encoder does not read it")
    if kind != "acoustic" and data is None:
        raise ValueError(f"a {kind} encoder is fitted on music; name a corpus: --data")
    place = Path(runs) / ENCODER_OF[STREAM_OF[kind]] / "artifact"
    if (place / CONFIG_FILE).exists():
        what = "another encoder made by others" if is_foreign(place) else "a model that was trained here"
        raise ArtifactError(f"{place} holds {what}; name another --runs folder, or move it away")
    if kind == "acoustic":
        ForeignCodec.from_pretrained(name, levels).save(place, CODEC_KIND, {})
        return place
    assert data is not None
    tracks = sorted((track for track in load_manifest(data) if track.split == "train"), key=lambda track: track.id)
    if not tracks:
        raise CorpusError(f"{data} has no training tracks to fit codes on; build a larger corpus")
    info = {"data": describe_data(data)}
    if kind == "semantic":
        semantic = ForeignSemantic.from_pretrained(name, layer, codebook_size or 1024).to(device)
        clips = ClipSampler(data, tracks, FIT_CLIP_S, seed)
        num = num_fit_clips(semantic.config, FIT_CLIP_S)
        semantic.fit((clips.batch(step, 1)[0].to(device) for step in range(num)), seed)
        semantic.save(place, SEMANTIC_KIND, info)
    else:
        joint = ForeignJoint.from_pretrained(name, levels or 12, codebook_size or 1024).to(device)
        order = np.random.default_rng(seed).permutation(len(tracks))[:MOST_FIT_TRACKS]
        audio = []
        for index in order.tolist():
            track = tracks[index]
            length = min(FIT_TRACK_S, track.seconds)
            clip = read_clip(data, track, (track.seconds - length) / 2, length)
            audio.append(torch.from_numpy(clip)[None].to(device))
        joint.fit(audio, [f"{tag} music" for tag in MTT_TAGS], seed)
        joint.save(place, JOINT_KIND, info)
    return place
