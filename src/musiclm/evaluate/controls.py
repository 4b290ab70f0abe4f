"""Which controls a figure must put in which order before it may speak of generated music.

Every table has sets whose order is known: other real music is nearer to real music than noise is, what was resynthesised from a clip agrees with it
more than another clip does. A measure that does not put them so on this corpus is reported as unreliable, beside the rows that show it.
"""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Order:
    """A figure of a section and two of its rows, the first of which must be better (or larger, where neither way is better)."""

    section: str
    figure: str
    better: str
    worse: str
    higher: bool = True


def _orders(section: str, figures: str, pairs: str, higher: bool = True) -> list[Order]:
    found = []
    for figure in figures.split():
        for pair in pairs.split():
            better, _, worse = pair.partition(">")
            found.append(Order(section, figure, better, worse, higher))
    return found


ORDERS = (
    *_orders("quality", "fad fad_infinity mmd", "real>codec real>noise", higher=False),
    *_orders("health", "clipped_share silent_share dc_offset seam_ratio", "real>broken", higher=False),
    *_orders("health", "bandwidth_hz", "real>broken"),
    *_orders("music", "beat_strength periodicity_2s periodicity_8s tonal_clarity", "real>noise"),
    *_orders("music", "repetition variety note_density polyphony", "real>noise"),
    *_orders("form", "repetition", "real_long>collage real_long>noise_long"),
    *_orders("form", "change", "collage>real_long real_long>noise_long"),
    *_orders("diversity", "other_prompts", "real>noise"),
    *_orders("adherence", "mean_auc", "retrieved>train retrieved>noise"),
    *_orders("cycle", "mcc", "retrieved>train retrieved>noise"),
    *_orders("captions", "kld", "codec>train codec>noise", higher=False),
    *_orders("semantic", "chroma onset", "codec>resynthesis resynthesis>other_clips codec>other_clips"),
    *_orders("probes", "chroma onset loudness tags", "tokens>shuffled"),
    *_orders("zero_shot", "mean_auc", "mulan>shuffled"),
    *_orders("retrieval", "recall_1 recall_10", "text_to_audio>chance audio_to_text>chance"),
    *_orders("memory", "by_embedding by_chroma", "copied>real copied>noise"),
    *_orders("codec", "pitch_correlation si_sdr_db visqol", "opus_24_kbps>opus_12_kbps opus_12_kbps>opus_6_kbps"),
    *_orders("codec", "mel_distance_db", "opus_24_kbps>opus_12_kbps opus_12_kbps>opus_6_kbps", higher=False),
)


def reliable(section: str, rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """For each figure of the section that has an order and the rows for it: whether all its controls stand in it."""
    found: dict[str, bool] = {}
    for order in ORDERS:
        if order.section != section:
            continue
        pair = [_value(rows.get(row, {}).get(order.figure)) for row in (order.better, order.worse)]
        if any(math.isnan(value) for value in pair):
            continue
        in_order = pair[0] > pair[1] if order.higher else pair[0] < pair[1]
        found[order.figure] = found.get(order.figure, True) and in_order
    return found


def _value(figure: Any) -> float:
    """The number of a figure, an `Estimate` or its JSON; nan for none."""
    figure = figure.get("value") if isinstance(figure, dict) else getattr(figure, "value", figure)
    return float("nan") if figure is None else float(figure)
