"""The sections of the report: a file each, with its measure, its controls and how it is read."""

from musiclm.evaluate.section import ReportSection
from musiclm.evaluate.sections import (
    adherence,
    captions,
    codec,
    cycle,
    diversity,
    form,
    health,
    memory,
    music,
    notes,
    probes,
    quality,
    real_or_not,
    retrieval,
    semantic,
    zero_shot,
)

# in the order of the report
SECTIONS: dict[str, ReportSection] = {
    "quality": quality.SECTION,
    "real_or_not": real_or_not.SECTION,
    "health": health.SECTION,
    "music": music.SECTION,
    "notes": notes.SECTION,
    "form": form.SECTION,
    "diversity": diversity.SECTION,
    "adherence": adherence.SECTION,
    "cycle": cycle.SECTION,
    "captions": captions.SECTION,
    "semantic": semantic.SECTION,
    "probes": probes.SECTION,
    "zero_shot": zero_shot.SECTION,
    "retrieval": retrieval.SECTION,
    "memory": memory.SECTION,
    "codec": codec.SECTION,
}


def title_of(name: str) -> str:
    """Of a section by its name in the report: `quality_aisfx` is `quality` by another embedder."""
    for section_name, section in SECTIONS.items():
        if name == section_name:
            return section.title
        if section.by_embedder and name.startswith(f"{section_name}_"):
            return f"{section.title}, by {name.removeprefix(f'{section_name}_')}"
    return name
