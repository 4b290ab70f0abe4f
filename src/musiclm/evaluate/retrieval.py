"""Does MuLan find the music a text describes, and the text of a piece of music?

On held-out pieces, beside the baseline of guessing (MuLan, section 4).

Texts are captions written from the weak labels of the same windows (`musiclm.data.captions.weak`), so the figures say
how much of what the labels know both towers share, not how people would judge. For texts that people wrote there is
`musiclm.evaluate.match`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.data.captions.weak import captions
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import Track
from musiclm.data.labels import WINDOW_S, Labels
from musiclm.models.encoders import JointEmbedding
from musiclm.models.mulan.gap import Gap, Retrieval, gap_of, retrieval


@dataclass(frozen=True, kw_only=True)
class RetrievalReport:
    """Retrieval and modality gap over one set of tracks; `dataclasses.asdict` makes it JSON."""

    tracks: int
    windows: int
    text_to_audio: Retrieval  # one caption against one window of every track
    audio_to_text: Retrieval
    track_text_to_audio: Retrieval  # mean embedding of a track's captions against the mean of its windows
    track_audio_to_text: Retrieval
    codes_text_to_audio: Retrieval  # as the first, through MuLan tokens of both, all levels
    gap: Gap  # of window and caption


@torch.no_grad()
def evaluate_retrieval(
    model: JointEmbedding,
    corpus_dir: Path,
    tracks: Sequence[Track],
    labels: Sequence[Labels],
    *,
    captions_per_window: int = 3,
    seed: int = 0,
) -> RetrievalReport:
    """Retrieval among `tracks` (at least two with labels), with captions no training step has seen (another seed).

    One window and one caption per track are drawn for the first figures, so that no candidate but the pair is of the
    same piece. Raises: ValueError if fewer than two tracks have labels.
    """
    by_track: dict[str, list[Labels]] = {}
    for entry in labels:
        by_track.setdefault(entry.track, []).append(entry)
    chosen = sorted((track for track in tracks if track.id in by_track), key=lambda track: track.id)
    if len(chosen) < 2:
        raise ValueError(f"retrieval needs two labelled tracks or more, got {len(chosen)}; label the corpus first")
    windows, texts, owner = [], [], []
    for number, track in enumerate(chosen):
        for entry in sorted(by_track[track.id], key=lambda x: x.start_s):
            audio = torch.from_numpy(read_clip(corpus_dir, track, entry.start_s, min(WINDOW_S, track.seconds)))
            windows.append(model.embed_audio(audio[None, None].to(model.device))[0].cpu())
            rng = random.Random(f"evaluate {seed} {track.id} {entry.start_s}")
            texts.append([captions(entry, rng) for _ in range(captions_per_window)])
            owner.append(number)
    audio = torch.stack(windows)
    flat = [text for row in texts for text in row]
    parts = [model.embed_text(flat[i : i + 32]).cpu() for i in range(0, len(flat), 32)]
    text = torch.cat(parts).unflatten(0, (len(texts), captions_per_window))
    return report(model, audio, text, torch.tensor(owner), seed)


@torch.no_grad()
def report(
    model: JointEmbedding,
    audio: Float[Tensor, "n d"],
    text: Float[Tensor, "n k d"],
    owner: Int[Tensor, " n"],
    seed: int = 0,
) -> RetrievalReport:
    """The figures for embedded windows, k captions each, and the number of the track each window is of."""
    num_tracks = int(owner.max()) + 1
    rng = random.Random(seed)
    one = torch.tensor([rng.choice(torch.nonzero(owner == i)[:, 0].tolist()) for i in range(num_tracks)])
    means_audio = F.normalize(torch.stack([audio[owner == i].mean(0) for i in range(num_tracks)]), dim=-1)
    means_text = F.normalize(torch.stack([text[owner == i].flatten(0, 1).mean(0) for i in range(num_tracks)]), dim=-1)
    device = model.device
    decoded_audio, decoded_text = (
        F.normalize(model.rvq.decode(model.quantize(x[one].to(device))[..., 0]), dim=-1).cpu()
        for x in (audio, text[:, 0])
    )
    return RetrievalReport(
        tracks=num_tracks,
        windows=audio.shape[0],
        text_to_audio=retrieval(text[one, 0], audio[one]),
        audio_to_text=retrieval(audio[one], text[one, 0]),
        track_text_to_audio=retrieval(means_text, means_audio),
        track_audio_to_text=retrieval(means_audio, means_text),
        codes_text_to_audio=retrieval(decoded_text, decoded_audio),
        gap=gap_of(model, audio.to(device), text[:, 0].to(device)),
    )
