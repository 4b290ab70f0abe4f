// Two octaves of keys, for the mouse, fingers, and the computer's keys; and what was played on them as sound.

import { make } from "./dom.js";
import { audio, wake } from "./player.js";
import { peak } from "./wav.js";

const LOWEST = 60; // C4, by MIDI's numbers
const NAMES = ["C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B"];
const PLACES = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13]; // of an octave's keys, in halves of a white one
// of the computer's keyboard, by place rather than letter: the rows of Z and Q, with the rows above them in black
const CODES = ["KeyZ KeyS KeyX KeyD KeyC KeyV KeyG KeyB KeyH KeyN KeyJ KeyM".split(" "),
  "KeyQ Digit2 KeyW Digit3 KeyE KeyR Digit5 KeyT Digit6 KeyY Digit7 KeyU".split(" ")].flat();
const TAP_S = 0.4; // of a key that something presses without holding it, such as a screen reader
const RELEASE_S = 0.03;
const RENDER_HZ = 24000;

/** A plain tone that begins at a time of a context; what ends it, at another. */
function tone(context, pitch, at) {
  const partials = new Float32Array([0, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]);
  const [source, fade, gate] = [context.createOscillator(), context.createGain(), context.createGain()];
  source.setPeriodicWave(context.createPeriodicWave(new Float32Array(partials.length), partials));
  source.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
  fade.gain.setValueAtTime(0, at);
  fade.gain.linearRampToValueAtTime(0.25, at + 0.01);
  fade.gain.setTargetAtTime(0.05, at + 0.01, 1);
  source.connect(fade).connect(gate).connect(context.destination);
  source.start(at);
  return (end) => {
    gate.gain.setValueAtTime(1, end);
    gate.gain.linearRampToValueAtTime(0, end + RELEASE_S);
    source.stop(end + RELEASE_S);
  };
}

/** Notes {pitch, startS, endS} as {samples, rateHz}. */
export async function rendered(notes) {
  const endS = Math.max(...notes.map((note) => note.endS)) + RELEASE_S;
  const context = new OfflineAudioContext(1, Math.ceil(endS * RENDER_HZ), RENDER_HZ);
  for (const { pitch, startS, endS: end } of notes) tone(context, pitch, startS)(end);
  const samples = (await context.startRendering()).getChannelData(0);
  const most = peak(samples);
  return { samples: most > 0.9 ? samples.map((sample) => (sample * 0.9) / most) : samples, rateHz: RENDER_HZ };
}

export class Keys {
  /** Draws them into an element. onPlay(): something was played. Time begins with the first note, for `mostS`. */
  constructor(element, mostS, onPlay) {
    this._mostS = mostS;
    this._onPlay = onPlay;
    this._down = new Map(); // what holds a key (a finger, a computer's key) -> {pitch, release, note}
    this._keys = CODES.map((code, index) => this._key(code, index));
    for (const octave of [this._keys.slice(12), this._keys.slice(0, 12)]) { // the higher one above
      element.append(make("div", { className: "octave" }, ...octave));
    }
    this._listen(element);
    this._point(0);
    this.clear();
  }

  clear() {
    this._releaseAll();
    this._notes = [];
    this._beganMs = null;
    this.full = false; // something was played after the end
  }

  get num() { return this._notes.length; }

  /** Up to the end of the last note, or now if one sounds. */
  get seconds() {
    if (!this._notes.length) return 0;
    const nowS = Math.min(this._mostS, (performance.now() - this._beganMs) / 1000);
    return Math.max(...this._notes.map((note) => note.endS ?? nowS));
  }

  /** What was played; keys that are held end. */
  notes() {
    this._releaseAll();
    return this._notes;
  }

  focus() { this._keys[this._current].focus(); }

  _key(code, index) {
    const name = NAMES[index % 12];
    const hint = make("span", { "aria-hidden": "true", textContent: code.at(-1) });
    const key = make("button", { type: "button", className: name.length > 1 ? "black" : "white", tabIndex: -1,
      "aria-label": `${name} ${4 + Math.floor(index / 12)}` }, hint);
    key.dataset.index = index;
    key.style.gridColumn = `${PLACES[index % 12]} / span 2`;
    return key;
  }

  _listen(element) {
    const keyAt = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".octave button");
    element.addEventListener("pointerdown", (event) => {
      const key = event.target.closest(".octave button");
      if (!key || event.button) return;
      key.releasePointerCapture?.(event.pointerId); // a finger may slide on to other keys
      key.focus(); // Safari does not
      this._press(event.pointerId, Number(key.dataset.index));
    });
    element.addEventListener("pointermove", (event) => {
      if (!this._down.has(event.pointerId)) return;
      const key = keyAt(event);
      if (key && LOWEST + Number(key.dataset.index) !== this._down.get(event.pointerId).pitch) {
        this._release(event.pointerId);
        this._press(event.pointerId, Number(key.dataset.index));
      }
    });
    for (const name of ["pointerup", "pointercancel"]) {
      document.addEventListener(name, (event) => this._release(event.pointerId));
    }
    element.addEventListener("click", (event) => { // without a pointer, and not by Enter: what reads the screen does it
      const key = event.target.closest(".octave button");
      if (!key || event.detail) return;
      this._press("click", Number(key.dataset.index));
      setTimeout(() => this._release("click"), TAP_S * 1000);
    });
    element.addEventListener("keydown", (event) => {
      const key = event.target.closest(".octave button");
      if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
      const played = ["Enter", " "].includes(event.key) ? Number(key.dataset.index) : CODES.indexOf(event.code);
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 12, ArrowDown: -12 }[event.key];
      if (played >= 0) { if (!event.repeat) this._press(event.code, played); }
      else if (step) this._point(Math.min(CODES.length - 1, Math.max(0, this._current + step)), true);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    element.addEventListener("keyup", (event) => this._release(event.code));
    element.addEventListener("focusout", (event) => {
      if (!element.contains(event.relatedTarget)) this._releaseAll();
    });
  }

  /** One key of all is reached by Tab, the others from there by arrows. */
  _point(index, focusing = false) {
    if (this._current !== undefined) this._keys[this._current].tabIndex = -1;
    this._current = index;
    this._keys[index].tabIndex = 0;
    if (focusing) this.focus();
  }

  _press(holder, index) {
    this._release(holder);
    const nowMs = performance.now();
    this._beganMs ??= nowMs;
    const startS = (nowMs - this._beganMs) / 1000;
    this.full = startS >= this._mostS;
    if (this.full) return this._onPlay();
    wake();
    const note = { pitch: LOWEST + index, startS, endS: null };
    this._notes.push(note);
    this._point(index);
    this._keys[index].dataset.down = "true";
    this._down.set(holder, { pitch: note.pitch, release: tone(audio(), note.pitch, audio().currentTime), note });
    this._onPlay();
  }

  _release(holder) {
    const held = this._down.get(holder);
    if (!held) return;
    this._down.delete(holder);
    held.release(audio().currentTime);
    const endS = (performance.now() - this._beganMs) / 1000;
    held.note.endS = Math.min(this._mostS, Math.max(endS, held.note.startS + 0.05));
    delete this._keys[held.pitch - LOWEST].dataset.down;
    this._onPlay();
  }

  _releaseAll() {
    for (const holder of [...this._down.keys()]) this._release(holder);
  }
}
