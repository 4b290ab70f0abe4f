// Sound that plays while it still comes in. It looks like an audio element to wavesurfer, and plays 16-bit WAV as it
// arrives, gaplessly: samples are scheduled a little ahead, and it waits where there are none yet.

import { sound } from "./api.js";

const RATE_HZ = 24000; // of what the service makes
const AHEAD_S = 1.0; // of what is scheduled
const PIECE_S = 0.5;
const START_S = 0.4; // that must be there before the first sound
const NUM_PEAKS = 2400;

let context = null;

export function audio() {
  if (!context) {
    if (navigator.audioSession) navigator.audioSession.type = "playback"; // a phone's silent switch is for calls
    context = new AudioContext({ sampleRate: RATE_HZ });
  }
  return context;
}

/** To be called in a click or key press: browsers let no page sound before one. */
export const wake = () => audio().resume();

export class Player extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    this.src = this.currentSrc = ""; // or wavesurfer would read it too
    this.samples = new Float32Array(0);
    this.made = 0; // samples that are there
    this.peaks = [];
    this.paused = true;
    this.ended = this.seeking = this.muted = this.autoplay = false;
    this.volume = this.playbackRate = 1;
    this.whole = new Promise((resolve, reject) => { this._resolve = resolve; this._reject = reject; });
    this.whole.catch(() => {}); // who waits for it gets the error
    this._abort = new AbortController();
    this._nodes = new Set();
    this._at = 0; // samples, where it plays from
    this._next = 0; // samples, up to where it is scheduled
    this._began = 0; // the context's time when `_at` sounded
    this._read().then(this._resolve, this._reject);
  }

  // -- what comes in

  async _read() {
    const response = await sound(this.url, this._abort.signal);
    const reader = response.body.getReader();
    let head = new Uint8Array(0);
    let rest = null; // a byte of half a sample
    let form = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      let data = value;
      if (!form) {
        head = joined(head, data);
        form = headOf(head);
        if (!form) continue;
        if (!form.plain) return this._decode(reader, head); // an upload of another kind
        this._expect(form.samples);
        data = head.subarray(form.starts);
      }
      if (rest !== null) data = joined(rest, data);
      rest = data.length % 2 ? data.slice(-1) : null;
      this._append(data);
    }
    if (!form) throw new Error("The sound could not be read.");
    if (this.made < this.samples.length) throw new Error("The sound broke off.");
    this._tell("progress");
  }

  async _decode(reader, head) {
    const parts = [head];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
    }
    const decoded = await audio().decodeAudioData(await new Blob(parts).arrayBuffer());
    this._expect(decoded.length);
    for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
      const from = decoded.getChannelData(channel);
      for (let i = 0; i < from.length; i++) this.samples[i] += from[i] / decoded.numberOfChannels;
    }
    this._count(decoded.length);
    this._tell("progress");
  }

  _expect(num) {
    this.samples = new Float32Array(num);
    this._bucket = Math.max(1, Math.ceil(num / NUM_PEAKS));
    this.peaks = new Array(Math.ceil(num / this._bucket)).fill(0);
    this._tell("loadedmetadata");
    this._tell("durationchange");
  }

  _append(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length - (bytes.length % 2));
    const num = Math.min(view.byteLength / 2, this.samples.length - this.made);
    for (let i = 0; i < num; i++) this.samples[this.made + i] = view.getInt16(2 * i, true) / 32768;
    this._count(num);
  }

  _count(num) {
    for (let i = this.made; i < this.made + num; i++) {
      const place = Math.floor(i / this._bucket);
      const size = Math.abs(this.samples[i]);
      if (size > this.peaks[place]) this.peaks[place] = size;
    }
    this.made += num;
    this._tell("progress");
    if (!this.paused) this._schedule();
  }

  // -- playing

  get duration() { return this.samples.length / RATE_HZ || NaN; }

  get currentTime() {
    if (this.paused || this._waits()) return this._at / RATE_HZ;
    const gone = Math.max(0, audio().currentTime - this._began);
    const time = Math.min(this._at / RATE_HZ + gone, this._next / RATE_HZ);
    return this._loop ? time % this.duration : time;
  }

  /** Whether the end runs into the beginning, without a gap. */
  get loop() { return Boolean(this._loop); }

  set loop(wanted) {
    const time = this.currentTime;
    this._loop = wanted;
    if (!this.paused) this.currentTime = time; // what was scheduled may lead elsewhere
  }

  set currentTime(time) {
    const playing = !this.paused;
    this._tell("seeking");
    this._silence();
    this._at = this._next = Math.round(Math.min(Math.max(0, time), this.made / RATE_HZ) * RATE_HZ);
    this.ended = false;
    if (playing) this._schedule();
    this._tell("timeupdate");
    this._tell("seeked");
  }

  async play() {
    if (!this.paused) return;
    if (this.ended || (this._at >= this.samples.length && this.samples.length)) this._at = 0;
    this._next = this._at;
    this.paused = this.ended = false;
    await wake();
    this._schedule();
    clearInterval(this._timer);
    this._timer = setInterval(() => this._tick(), 100);
    this._tell("play");
  }

  pause() {
    if (this.paused) return;
    this._at = this._next = Math.round(this.currentTime * RATE_HZ);
    this.paused = true;
    this._silence();
    clearInterval(this._timer);
    this._tell("pause");
  }

  _tick() {
    this._schedule();
    this._tell("timeupdate");
    const planned = this.samples.length > 0 && this._next >= this.samples.length;
    if (!this._loop && planned && this.currentTime >= this.duration - 1e-3) {
      this.pause();
      this._at = this.samples.length;
      this.ended = true;
      this._tell("ended");
    }
  }

  /** Whether nothing sounds because nothing is there yet. */
  _waits() { return this._next === this._at; }

  _schedule() {
    const now = audio().currentTime;
    if (!this._waits() && this._began + (this._next - this._at) / RATE_HZ < now && this._next < this.samples.length) {
      this._at = this._next; // it ran dry: it goes on from here, once there is some more
    }
    const enough = Math.min(START_S * RATE_HZ, this.samples.length - this._at);
    if (this._waits()) {
      if (this.made - this._at < Math.max(1, enough)) return;
      this._began = now + 0.05;
    }
    const whole = this.made > 0 && this.made === this.samples.length;
    const end = this._loop && whole ? Infinity : this.made;
    while (this._next < end && this._began + (this._next - this._at) / RATE_HZ < now + AHEAD_S) {
      const place = this._next % this.samples.length;
      const num = Math.min(PIECE_S * RATE_HZ, this.made - place);
      const buffer = audio().createBuffer(1, num, RATE_HZ);
      buffer.copyToChannel(this.samples.subarray(place, place + num), 0);
      const node = audio().createBufferSource();
      node.buffer = buffer;
      node.connect(audio().destination);
      node.onended = () => this._nodes.delete(node);
      node.start(this._began + (this._next - this._at) / RATE_HZ);
      this._nodes.add(node);
      this._next += num;
    }
  }

  _silence() {
    for (const node of this._nodes) { node.onended = null; node.stop(); }
    this._nodes.clear();
  }

  _tell(name) { this.dispatchEvent(new Event(name)); }

  /** Lets go of everything. */
  close() {
    this.pause();
    this._abort.abort();
  }

  // -- what else an audio element has
  load() {}
  remove() {}
  removeAttribute() {}
  setAttribute() {}
}

function joined(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Where the samples of a WAV begin and how many there are; null while its head is not whole. */
function headOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const word = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12) return null;
  if (word(0) !== "RIFF" || word(8) !== "WAVE") return { plain: false };
  let plain = false;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (word(at) === "fmt " && at + 24 <= bytes.length) {
      const [code, channels] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
      const rate = view.getUint32(at + 12, true);
      plain = code === 1 && channels === 1 && rate === RATE_HZ && view.getUint16(at + 22, true) === 16;
    }
    if (word(at) === "data") return { plain, starts: at + 8, samples: Math.floor(size / 2) };
    at += 8 + size + (size % 2);
  }
  return null;
}
