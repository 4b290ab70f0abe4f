// The panel "Melody": what the music is to follow, hummed, played on keys, or from a file.

import { $, clock, say } from "./dom.js";
import { Keys, rendered } from "./keys.js";
import { record } from "./microphone.js";
import { peak, wav } from "./wav.js";

const MOST_S = 30;
const LEAST_S = 0.5; // as the service has it
const SILENT = 0.001; // a peak below which a recording is silent

export class Melody {
  /** attempt(action): does something, and shows what went wrong. upload(file): its entry. onSound(): the panel is
   *  about to sound or to listen. */
  constructor(attempt, upload, onSound) {
    this._upload = upload;
    this._onSound = onSound;
    this._chosen = null; // {name, url, seconds, id, blob}; id: of an upload; blob: what is to become one
    this._recording = null; // {stop(), taken}
    this._keys = new Keys($("#keys .piano"), MOST_S, () => this._tellKeys());
    this._record = $("#melody-record");
    this._record.addEventListener("click", () => attempt(() => (this._recording ? this._stop() : this._begin())));
    $("#melody-file").addEventListener("change", (event) => attempt(async () => {
      const [file] = event.target.files;
      event.target.value = "";
      if (file) this.follow(await upload(file));
    }));
    $("#melody-keys").addEventListener("click", () => this._showKeys($("#keys").hidden));
    $("#keys-use").addEventListener("click", () => attempt(() => this._useKeys()));
    $("#keys-clear").addEventListener("click", () => { this._keys.clear(); this._tellKeys(); this._keys.focus(); });
    $("#melody-play").addEventListener("click", () => attempt(() => this._toggle()));
    $("#melody-remove").addEventListener("click", () => {
      this._choose(null);
      say("No melody.");
      this._record.focus();
    });
    $("#melody").addEventListener("toggle", () => {
      if ($("#melody").open) return;
      this._silence();
      if (this._recording) attempt(() => this._stop());
    });
    this._tellKeys();
  }

  /** What the service's model can. */
  setUp(about) {
    $("#melody-ways").hidden = !about.can_follow;
    $("#melody-none").hidden = about.can_follow;
    $("#melody-none").textContent = `The model ${about.bundle} can't follow a melody.`;
  }

  /** Chooses an upload. */
  follow(upload) {
    const { id, name, duration_s: seconds } = upload;
    $("#melody").open = true;
    this._choose({ id, name, seconds, url: `v1/takes/${id}/sound.wav`, blob: null });
  }

  /** An upload is gone. What was made in the page is sent again when it is needed. */
  forget(id) {
    if (this._chosen?.id !== id) return;
    if (this._chosen.blob) this._chosen.id = null;
    else this._choose(null);
  }

  /** The id of what is chosen, which is sent if it was not yet; null for no melody. */
  async send() {
    await this._stop();
    this._silence();
    const chosen = this._chosen;
    if (chosen && !chosen.id) chosen.id = (await this._upload(new File([chosen.blob], `${chosen.name}.wav`))).id;
    return chosen && chosen.id;
  }

  // -- what is chosen

  _choose(chosen) {
    this._silence();
    if (this._chosen?.blob) URL.revokeObjectURL(this._chosen.url);
    this._chosen = chosen;
    $("#melody-shown").hidden = !chosen;
    const label = chosen ? `${chosen.name}, ${clock(chosen.seconds)}` : "";
    $("#melody-shown .name").textContent = label;
    $("#melody-short").textContent = chosen ? `: ${label}` : "";
    if (chosen) say(`The music will follow ${label}.`);
  }

  /** Sound that was made in the page. */
  _take(how, { samples, rateHz }) {
    const seconds = samples.length / rateHz;
    if (seconds < LEAST_S) throw new Error(`That was ${seconds.toFixed(1)} s; a melody has ${LEAST_S} s or more.`);
    if (peak(samples) < SILENT) throw new Error("Nothing was heard. Is it the right microphone, and switched on?");
    const blob = wav(samples, rateHz);
    const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    this._choose({ id: null, name: `${how} at ${time}`, seconds, url: URL.createObjectURL(blob), blob });
  }

  async _toggle() {
    if (this._sound) return this._silence();
    this._onSound();
    this._sound = new Audio(this._chosen.url);
    this._sound.addEventListener("ended", () => this._silence());
    this._tellSound();
    try {
      await this._sound.play();
    } catch (error) {
      this._silence();
      if (error.name !== "AbortError") throw error; // or it was stopped before it began
    }
  }

  _silence() {
    this._sound?.pause();
    this._sound = null;
    this._tellSound();
  }

  _tellSound() {
    $("#melody-play").textContent = this._sound ? "Stop" : "Play";
    $("#melody-play").setAttribute("aria-label", this._sound ? "Stop the melody" : "Play the melody");
  }

  // -- the microphone

  async _begin() {
    if (this._asking) return;
    this._asking = true; // for the microphone, which may take a while
    this._onSound();
    this._silence();
    try {
      const { stop, done } = await record(MOST_S, (seconds, level) => this._tellLevel(seconds, level));
      this._recording = { stop, taken: done.then((sound) => this._recorded(sound)) };
    } finally {
      this._asking = false;
    }
    this._tellRecording(true);
    say("Recording.");
    await this._recording.taken;
  }

  _recorded(sound) {
    this._recording = null;
    this._tellRecording(false);
    this._take("Hummed", sound);
  }

  /** Ends what is being recorded, and chooses it. */
  async _stop() {
    const recording = this._recording;
    recording?.stop();
    await recording?.taken;
  }

  _tellRecording(running) {
    $("#recording").hidden = !running;
    this._record.textContent = running ? "Stop recording" : "Record";
    if (running) this._tellLevel(0, 0);
  }

  _tellLevel(seconds, level) {
    $("#recording meter").value = level;
    $("#recording output").textContent = `${clock(seconds)} of ${clock(MOST_S)}`;
  }

  // -- the keys

  _showKeys(shown) {
    $("#keys").hidden = !shown;
    $("#melody-keys").setAttribute("aria-expanded", String(shown));
    if (!shown) return;
    this._onSound();
    this._silence();
    this._keys.focus();
  }

  _tellKeys() {
    const { num, seconds, full } = this._keys;
    $("#keys-use").disabled = $("#keys-clear").disabled = num === 0;
    const label = `${num} note${num > 1 ? "s" : ""}, ${clock(seconds)} of ${clock(MOST_S)}`;
    $("#keys output").textContent = full ? `${label}; there is room for no more` : num ? label : "";
  }

  async _useKeys() {
    this._take("Played", await rendered(this._keys.notes()));
    this._keys.clear();
    this._tellKeys();
    this._showKeys(false);
    $("#melody-play").focus();
  }
}
