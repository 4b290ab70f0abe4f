"""The codec by number of levels, beside Opus and the codecs asked for, on test tracks (`musiclm.evaluate.codec`)."""

from collections.abc import Sequence

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.codec import PretrainedCodec, evaluate_codec, level_counts, make_visqol
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.notes import NoteAnalyser

CLIP_S = 5.0


def measure(sets: ClipSets, analyses: Analyses, codecs: Sequence[str] = ()) -> Figures:
    soundstream = sets.model.soundstream
    report = evaluate_codec(
        soundstream.to("cpu"),
        sets.corpus,
        sets.tracks("test"),
        levels=level_counts(soundstream.config, sets.model.default_config().levels),
        others=[PretrainedCodec(name) for name in codecs],
        num_clips=sets.config.num_codec,
        clip_s=CLIP_S,
        visqol=make_visqol(),
        notes=NoteAnalyser(),
    )
    soundstream.to(sets.model.device)
    found = report.to_json()
    return {**found, "rows": {row.pop("name").lower().replace(" ", "_"): row for row in found["rows"]}}


SECTION = ReportSection(
    title="Codec",
    measure=measure,
    note="`keys_below_c4`, `keys_above_c4` and `onsets`: F1 of the notes that basic-pitch finds in the copy and in the "
    "original, 1 is the same. `another_clip` is other real music beside the originals: what no copy scores.",
    orders=(
        *orders(
            "pitch_correlation si_sdr_db visqol keys_below_c4 keys_above_c4 onsets",
            "opus_24_kbps>opus_12_kbps opus_12_kbps>opus_6_kbps",
        ),
        *orders("pitch_correlation keys_below_c4 keys_above_c4 onsets", "opus_6_kbps>another_clip"),
        *orders("mel_distance_db", "opus_24_kbps>opus_12_kbps opus_12_kbps>opus_6_kbps", higher=False),
    ),
)
