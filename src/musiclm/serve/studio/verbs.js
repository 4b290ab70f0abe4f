// What the form asks for, by verb. A verb that the service does not have is not offered.

export const VERBS = {
  generate: {
    title: "New music", button: "Make music",
    fields: ["prompt", "melody", "duration_s", "tempo_bpm", "key", "seed", "more", "guidance", "temperature"],
  },
  story: {
    title: "New music", button: "Tell the story",
    fields: ["story", "melody", "duration_s", "blend_s", "tempo_bpm", "key", "seed", "more", "guidance", "temperature"],
  },
  continue: {
    title: "Continue", action: "Continue", button: "Continue it", from: "Goes on from",
    prompt: "What is it like from there? Empty: as it was.",
    fields: ["prompt", "melody", "duration_s", "tempo_bpm", "key", "seed", "more", "guidance", "temperature"],
  },
  repaint: {
    title: "Repaint", action: "Repaint", button: "Repaint the span", from: "A span is made anew in", span: true,
    prompt: "What is it like there? Empty: as it was.",
    fields: ["prompt", "from_s", "to_s", "tempo_bpm", "key", "seed", "more", "guidance", "temperature"],
  },
  vary: {
    title: "Vary", action: "Vary", button: "Vary it", from: "Another of",
    prompt: "What is it like? Empty: as it was.",
    fields: ["prompt", "strength", "seed"],
  },
  loop: {
    title: "Loop", action: "Loop", button: "Make a loop", from: "Whole bars of", optional: ["duration_s"],
    prompt: "", fields: ["duration_s", "tempo_bpm", "seed"],
  },
};

const FLATS = ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
export const KEYS = ["major", "minor"].flatMap((mode) => FLATS.map((note) => `${note} ${mode}`));

export const EXAMPLES = [
  "a calm piano piece, slow and tender",
  "house with a deep bass at 124 BPM in A minor",
  "a celtic tune with harp and flute",
  "fast heavy metal with electric guitars and drums",
  "ambient synth pads, slow and dark",
  "a string quartet, solemn, in D minor",
  "the soundtrack of an arcade game, upbeat, with chip sounds",
];
