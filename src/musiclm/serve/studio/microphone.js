// The microphone, as samples.

const REASONS = {
  NotAllowedError: "The microphone is not allowed here. Allow it for this page in the browser, or play the keys.",
  NotFoundError: "There is no microphone. Plug one in, choose a file, or play the keys.",
  NotReadableError: "The microphone can't be used now. Does another program have it?",
};
const FLOOR_DB = -60; // what a level of 0 is

/** Asks for the microphone and listens. onTell(seconds, level from 0 to 1).
 *  {stop(), done}: done has {samples, rateHz} once it was stopped, or is `mostS` long. */
export async function record(mostS, onTell) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers let a page listen at localhost or over https only. Choose a file, or play the keys.");
  }
  let stream;
  try { // what makes speech clear takes held notes for noise
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The microphone can't be used (${error.message || error.name}).`);
  }
  const context = new AudioContext(); // at the microphone's own rate, or Firefox does not connect it
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule("studio/recorder.js");
    await context.resume();
  } catch (error) {
    close();
    throw error;
  }
  const node = new AudioWorkletNode(context, "recorder", { channelCount: 1, channelCountMode: "explicit" });
  const samples = new Float32Array(Math.round(mostS * context.sampleRate));
  let num = 0;
  let stop;
  const done = new Promise((resolve) => {
    stop = () => {
      node.port.onmessage = null;
      close();
      resolve({ samples: samples.subarray(0, num), rateHz: context.sampleRate });
    };
  });
  node.port.onmessage = ({ data }) => {
    samples.set(data.subarray(0, samples.length - num), num);
    num = Math.min(samples.length, num + data.length);
    const power = data.reduce((sum, sample) => sum + sample * sample, 0) / data.length;
    onTell(num / context.sampleRate, Math.min(1, Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / FLOOR_DB)));
    if (num === samples.length) stop();
  };
  stream.getTracks()[0].addEventListener("ended", stop); // unplugged
  context.createMediaStreamSource(stream).connect(node).connect(context.destination); // it gives silence, and runs
  return { stop, done };
}
