"""`musiclm evaluate`: a bundle's music and models, measured beside controls, into one folder that survives a kill.

REPORT/settings.json                what is measured: bundle by hash, prompts, seed, sizes; another bundle is refused
REPORT/clips/<set>/                 what models made, kept: a new measure needs no new generation
                                    (`musiclm.evaluate.sets`)
REPORT/analyses/<analyser>/<set>.json
                                    what an analyser says of each clip of a set: a new one runs alone
                                    (`musiclm.evaluate.analyses`)
REPORT/sections/<name>.json         figures, each section as soon as it is done (`musiclm.evaluate.sections`)
REPORT/pictures.png                 generated beside real clips, to look at (`musiclm.evaluate.pictures`)
REPORT/report.json                  all figures; report.html shows them
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from musiclm import __version__
from musiclm.core.artifact import git_revision, write_atomic
from musiclm.core.bundle import open_bundle
from musiclm.data.corpus.manifest import load_manifest
from musiclm.evaluate.adherence import Prompt, load_prompts
from musiclm.evaluate.analyses import Analyses, folder_name, read_kept
from musiclm.evaluate.bootstrap import Estimate
from musiclm.evaluate.clipset import DamagedError, Say
from musiclm.evaluate.config import EvaluateConfig
from musiclm.evaluate.controls import reliable
from musiclm.evaluate.pictures import PICTURES_FILE, side_by_side
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sections import SECTIONS
from musiclm.evaluate.sets import ClipSets, spread

PNG_END = b"IEND\xaeB`\x82"
NUM_PICTURES = 10  # of generated clips, and as many of real ones


class Study:
    """An evaluation under way."""

    def __init__(
        self,
        bundle: str | Path,
        folder: Path,
        *,
        corpus: Path | None = None,
        prompts: Path | None = None,
        embedders: Sequence[str] = (),
        codecs: Sequence[str] = (),
        config: EvaluateConfig | None = None,
        device: str = "cpu",
        say: Say = print,
    ) -> None:
        """embedders: beside the judge, for sections that compare embeddings. codecs: of transformers, beside Opus.

        Raises: ValueError for a folder with the report of another bundle or other settings, or prompts that can't be
        read.
        """
        config = config or EvaluateConfig()
        self.folder, self.embedders, self.codecs, self.say = Path(folder), tuple(embedders), tuple(codecs), say
        every = load_prompts(prompts)
        self.prompts: list[Prompt] = [every[i] for i in spread(len(every), config.num_prompts or len(every))]
        opened = open_bundle(bundle)
        texts = "\n".join(f"{p.text}|{sorted(p.concepts)}|{p.tempo_bpm}|{p.key}" for p in self.prompts)
        self.settings = {
            "bundle": opened.hash,
            "name": opened.document.get("name", ""),
            "sampling": opened.document.get("sampling", {}),
            "prompts": hashlib.sha256(texts.encode()).hexdigest()[:16],
            "corpus": _corpus_hash(corpus) if corpus else None,
            **asdict(config),
        }
        self._check_settings()
        self.sets = ClipSets(opened, self.folder / "clips", self.prompts, corpus, config, device)
        before = self.folder / "heard"  # reports begun by version 0.1.0 keep them there
        kept = before if before.is_dir() else self.folder / "analyses"
        self.analyses = Analyses(kept, lambda: self.sets.seams_s, device, say)

    def _check_settings(self) -> None:
        """Writes the settings, or compares them with those of the report that is there already."""
        path = self.folder / "settings.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if there := [name for name in ("report.json", "report.html") if (self.folder / name).exists()]:
                raise ValueError(
                    f"{self.folder / there[0]} is there already, of no report that can be gone on with; name another "
                    "--report folder"
                )
            write_atomic(path, json.dumps(self.settings, indent=1))
            return
        # a setting that came after the report was begun had its default; the sampling, that of the bundle
        defaults = {**asdict(EvaluateConfig()), "sampling": self.settings["sampling"]}
        try:
            before = {**defaults, **json.loads(path.read_text())}
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}); delete {self.folder} and measure again, or name another --report folder"
            ) from None
        changed = sorted(name for name in self.settings if before.get(name) != self.settings[name])
        if changed:
            raise ValueError(
                f"{self.folder} holds a report with another {changed[0]} ({before.get(changed[0])}, now "
                f"{self.settings[changed[0]]}); name another --report folder"
            )

    def sections(self) -> dict[str, tuple[ReportSection, Callable[[], Figures]]]:
        """What can be measured here, by name: without a corpus, what needs no real music."""
        found: dict[str, tuple[ReportSection, Callable[[], Figures]]] = {}
        for name, section in SECTIONS.items():
            if section.needs_corpus and not self.sets.has_corpus:
                continue
            more = {"codecs": self.codecs} if name == "codec" else {}
            found[name] = section, partial(section.measure, self.sets, self.analyses, **more)
            for embedder in self.embedders if section.by_embedder else ():
                measure = partial(section.measure, self.sets, self.analyses, embedder=embedder)
                found[f"{name}_{folder_name(embedder)}"] = section, measure
        return found

    def run(self) -> dict[str, Any]:
        """All sections, what is there already not again; the report, which is also written to report.json."""
        started = time.monotonic()
        for clips in (self.sets.generated, self.sets.seeds, self.sets.long):
            clips.fill(self.say)
        found = {name: self._measured(name, *entry) for name, entry in self.sections().items()}
        report = {
            "settings": self.settings,
            "musiclm": __version__,
            "git_revision": git_revision(),
            "date": time.strftime("%Y-%m-%d"),
            "analysers": self.analyses.analysers(),
            "prompts": [prompt.text for prompt in self.prompts],
            "pictures": self._pictures(),
            "sections": found,
        }
        write_atomic(self.folder / "report.json", json.dumps(report, indent=1) + "\n")
        self.say(f"measured in {time.monotonic() - started:.0f} s")
        return report

    def _measured(self, name: str, section: ReportSection, measure: Callable[[], Figures]) -> Figures:
        """A section's figures, as they are kept."""
        path = self.folder / "sections" / f"{name}.json"
        if not path.exists():
            self.say(f"measuring {name}")
            try:
                figures = measure()
            except DamagedError:
                raise
            except ValueError as error:  # a package or labels that are not there: the others go on
                self.say(f"{name} left out: {error}")
                return {"skipped": str(error)}
            figures["reliable"] = reliable(section.orders, figures["rows"])
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, json.dumps(figures, default=_plain, indent=1))
        figures = read_kept(path)
        return figures

    def _pictures(self) -> dict[str, str]:
        """{"file": of the pictures}, drawn now if they are not there; or {"skipped": why}."""
        path = self.folder / PICTURES_FILE
        if not path.exists() or not path.read_bytes().endswith(PNG_END):
            self.say("drawing pictures")
            try:
                made = self.sets.generated
                chosen = spread(len(made), NUM_PICTURES)
                generated = [(f"generated: {self.prompts[i].text}", made.read(i)) for i in chosen]
                real = list(self.sets.real) if self.sets.has_corpus else []
                picture = side_by_side(generated, [("real", real[i]) for i in spread(len(real), NUM_PICTURES)])
            except DamagedError:
                raise
            except ValueError as error:
                self.say(f"pictures left out: {error}")
                return {"skipped": str(error)}
            write_atomic(path, picture)
        return {"file": PICTURES_FILE}


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a report")


def _corpus_hash(corpus: Path) -> str:
    tracks = sorted(f"{track.id} {track.split}" for track in load_manifest(corpus))
    return hashlib.sha256("\n".join(tracks).encode()).hexdigest()[:16]


__all__ = ["EvaluateConfig", "Study"]
