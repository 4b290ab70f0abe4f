// The picture of a sound: waveform, timeline, spectrogram, and a span that is dragged on it. All drawn by wavesurfer.

import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";
import Regions from "./vendor/wavesurfer/regions.esm.js";
import Spectrogram from "./vendor/wavesurfer/spectrogram.esm.js";
import Timeline from "./vendor/wavesurfer/timeline.esm.js";
import { $ } from "./dom.js";

const REDRAWN_MS = 400; // how often, while sound comes in
const LONGEST_SPECTROGRAM_S = 180; // of more it would take too long
const SHORTEST_SPAN_S = 0.5;

// from deep to light, in the page's own colours: [red, green, blue, alpha] from 0 to 1
const STOPS = [[0.06, 0.1, 0.11], [0.1, 0.27, 0.3], [0.18, 0.5, 0.5], [0.62, 0.78, 0.62], [0.98, 0.96, 0.86]];
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  const share = place - low;
  return [...STOPS[low].map((value, channel) => value + share * (STOPS[low + 1][channel] - value)), 1];
});

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Wave {
  /** onSpan: gets a span {start, end} in seconds, or null. */
  constructor(onSpan) {
    this._onSpan = onSpan;
    this._surfer = this._player = this._regions = null;
    this._drawn = 0;
    this.joints = []; // seconds to mark
    this.selecting = false;
  }

  /** Shows a player's sound, as it comes in. */
  show(player, joints = []) {
    this.clear();
    this._player = player;
    this.joints = joints;
    const container = $("#wave");
    container.hidden = false;
    this._regions = Regions.create();
    this._surfer = WaveSurfer.create({
      container, media: player, height: 110, waveColor: colour("--wave"), progressColor: colour("--played"),
      cursorColor: colour("--ink"), cursorWidth: 2, barWidth: 2, barGap: 1, barRadius: 2,
      normalize: false, dragToSeek: false,
      plugins: [this._regions, Timeline.create({ height: 18, style: { color: colour("--quiet"), fontSize: "11px" } })],
    });
    this._surfer.on("error", () => {}); // of drawing; the player tells of its own
    this._regions.on("region-created", (region) => this._spanned(region));
    this._regions.on("region-updated", (region) => this._spanned(region));
    this._progress = () => this._draw();
    player.addEventListener("progress", this._progress);
    player.whole.then(() => this._finish(player), () => {});
    this._draw();
  }

  clear() {
    if (this._player) this._player.removeEventListener("progress", this._progress);
    if (this._surfer) this._surfer.destroy();
    this._surfer = this._player = this._regions = this._spectrogram = null;
    this._selecting = null;
    this._drawn = 0;
    this.whole = false;
  }

  async _draw() {
    if (!this._player || this.whole || !this._player.samples.length) return;
    if (performance.now() - this._drawn < REDRAWN_MS) return;
    this._drawn = performance.now();
    await this._surfer.load("", [this._player.peaks], this._player.duration);
  }

  async _finish(player) {
    if (player !== this._player) return;
    this.whole = true;
    await this._surfer.load("", [player.samples], player.duration);
    if (player !== this._player) return;
    for (const start of this.joints) {
      this._regions.addRegion({ id: `joint-${start}`, start, drag: false, resize: false, color: colour("--accent") });
    }
    this.select(this.selecting);
    this.spectrogram(this.wanted);
  }

  /** Whether a spectrogram stands below. */
  spectrogram(wanted) {
    this.wanted = wanted;
    if (!this._surfer || !this.whole) return;
    if (this._spectrogram && !wanted) {
      this._spectrogram.destroy();
      this._spectrogram = null;
    }
    if (!this._spectrogram && wanted && this._player.duration <= LONGEST_SPECTROGRAM_S) {
      this._spectrogram = this._surfer.registerPlugin(Spectrogram.create({
        height: 128, fftSamples: 1024, noverlap: 512, labels: false, scale: "mel", frequencyMax: 12000,
        colorMap: COLOURS, gainDB: 20, rangeDB: 80,
      }));
    }
  }

  /** Whether dragging selects a span. */
  select(wanted) {
    this.selecting = wanted;
    if (!this._surfer || !this.whole) return;
    if (wanted && !this._selecting) this._selecting = this._regions.enableDragSelection({ color: colour("--span") });
    if (!wanted && this._selecting) {
      this._selecting();
      this._selecting = null;
    }
  }

  /** Shows a span that was typed; null shows none. */
  setSpan(span) {
    if (!this._regions) return;
    const found = this._span();
    if (!span) { found.forEach((region) => region.remove()); return; }
    if (found.length) found[0].setOptions({ start: span.start, end: span.end });
    else if (this.whole) {
      this._regions.addRegion({ id: "span", start: span.start, end: span.end, color: colour("--span") });
    }
  }

  _span() {
    return this._regions.getRegions().filter((region) => !region.id.startsWith("joint-"));
  }

  _spanned(region) {
    if (region.id.startsWith("joint-")) return;
    for (const other of this._span()) if (other !== region) other.remove();
    if (region.element) region.element.setAttribute("aria-hidden", "true"); // its numbers stand in the form
    const round = (value) => Math.round(value * 100) / 100;
    let [start, end] = [round(region.start), round(region.end)];
    if (end - start < SHORTEST_SPAN_S) {
      end = Math.min(this._player.duration, start + SHORTEST_SPAN_S);
      start = Math.max(0, end - SHORTEST_SPAN_S);
      region.setOptions({ start, end });
    }
    this._onSpan({ start, end: Math.min(end, this._player.duration) });
  }
}
