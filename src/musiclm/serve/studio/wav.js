// Samples as a sound file.

/** Mono, 16 bits. samples: Float32Array, -1 to 1. */
export function wav(samples, rateHz) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) => { for (let i = 0; i < 4; i++) view.setUint8(at + i, text.charCodeAt(i)); };
  word(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); word(8, "WAVE");
  word(12, "fmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true); // plain samples, one channel
  view.setUint32(24, rateHz, true); view.setUint32(28, 2 * rateHz, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  word(36, "data"); view.setUint32(40, 2 * samples.length, true);
  for (let i = 0; i < samples.length; i++) {
    view.setInt16(44 + 2 * i, Math.round(32767 * Math.min(1, Math.max(-1, samples[i]))), true);
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}

export function peak(samples) {
  let most = 0;
  for (const sample of samples) most = Math.max(most, Math.abs(sample));
  return most;
}
