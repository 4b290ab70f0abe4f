// In the audio thread: hands on what the microphone gives, in pieces.

const PIECE_SAMPLES = 1024;

registerProcessor("recorder", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this._piece = new Float32Array(PIECE_SAMPLES);
    this._num = 0;
  }

  process([input]) {
    if (!input.length) return true; // nothing is connected yet
    this._piece.set(input[0], this._num); // 128 samples
    this._num += input[0].length;
    if (this._num >= PIECE_SAMPLES) {
      this.port.postMessage(this._piece.slice());
      this._num = 0;
    }
    return true;
  }
});
