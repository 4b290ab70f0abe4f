// The studio: the form, the player, what is being made, and the takes, put together.

import * as api from "./api.js";
import { Compose } from "./compose.js";
import { $, clock, complain, make, say } from "./dom.js";
import { Melody } from "./melody.js";
import { Player, wake } from "./player.js";
import { Takes } from "./takes.js";
import { VERBS } from "./verbs.js";
import { Wave } from "./wave.js";
import { Work } from "./work.js";

const FORMATS = [["wav", "WAV"], ["flac", "FLAC"], ["opus", "Opus"], ["mp3", "MP3"]];
const SKIP_S = 5;

let service = null;
let player = null;
let shown = null; // {job} or {take} that the player has

const wave = new Wave((span) => {
  compose.setSpan(span);
  if (compose.verb !== "repaint" && service && offers("repaint") && shown?.take) compose.use("repaint", shown.take);
});
const compose = new Compose(ask, (span) => wave.setSpan(span));
const melody = new Melody(attempt, upload, () => player?.pause());
const takes = new Takes((take) => attempt(() => open(take, true)), (take) => attempt(() => keep(take)));
const work = new Work((job) => listen(job, true), ended, complain);

const offers = (verb) => service.verbs.some((one) => one.name === verb);

/** Does something, and says in a line what went wrong. */
async function attempt(action) {
  complain(null);
  try {
    return await action();
  } catch (error) {
    complain(error);
  }
}

// -- making

function ask(verb, request) {
  wake(); // this is the click that lets the page sound
  return attempt(async () => {
    const button = $("#make");
    button.disabled = true;
    try {
      const followed = VERBS[verb].fields.includes("melody") && (await melody.send());
      const job = await api.start(verb, followed ? { ...request, melody: followed } : request);
      say(job.state === "waiting" && job.ahead ? "It waits for its turn." : "It is being made.");
      work.add(job);
      if (!player || player.paused) listen(job, true);
      $("#player").scrollIntoView({ block: "nearest" }); // on a phone it is below the form
    } finally {
      button.disabled = false;
    }
  });
}

/** Plays a job while it is made. */
function listen(job, playing) {
  const name = job.request.prompt || job.request.sections?.[0]?.prompt || "Music without a prompt";
  load(`v1/jobs/${job.id}/sound.wav`, { job }, playing);
  describe(name, "being made", "Sound starts as soon as there is some.");
  takes.mark(null);
}

async function ended(job) {
  Work.announce(job);
  if (job.error) complain(new Error(job.error));
  await refresh();
  const take = job.take && takes.find(job.take);
  if (shown?.job?.id !== job.id) return;
  if (take) {
    shown = { take };
    wave.joints = joints(take); // drawn with the whole sound
    tell(take);
  } else if (job.state !== "done") {
    stop();
  }
}

// -- playing

/** Where what is new in a take meets what was there. */
const joints = (take) => [take.made_from_s, take.made_to_s].filter((at) => at > 0 && at < take.duration_s);

function load(url, what, playing, marks = []) {
  player?.close();
  player = new Player(url);
  shown = what;
  for (const name of ["play", "pause", "timeupdate", "ended", "loadedmetadata"]) {
    player.addEventListener(name, showTime);
  }
  const mine = player;
  player.whole.catch((error) => { if (mine === player && error.name !== "AbortError" && shown.take) complain(error); });
  $("#repeat").checked = player.loop = what.take?.verb === "loop";
  wave.selecting = Boolean(service && offers("repaint") && what.take?.verb !== "midi");
  wave.show(player, marks);
  $("#transport").hidden = false;
  if (playing) attempt(() => player.play());
  showTime();
}

function stop() {
  player?.close();
  player = shown = null;
  wave.clear();
  $("#wave").hidden = $("#transport").hidden = $("#actions").hidden = $("#span-hint").hidden = true;
  describe("Nothing to hear", null, "Describe some music and press “Make music”, or choose a take below.");
}

function showTime() {
  if (!player) return;
  $("#play").setAttribute("aria-label", player.paused ? "Play" : "Pause");
  $("#time").textContent = `${clock(player.currentTime)} / ${clock(player.duration || 0)}`;
}

const toggle = () => player && attempt(() => (player.paused ? player.play() : player.pause()));

// -- a take

function open(take, playing) {
  if (compose.take && compose.take.id !== take.id) compose.use("generate");
  compose.forgetSpan();
  load(`v1/takes/${take.id}/sound.wav`, { take }, playing, joints(take));
  tell(take);
}

/** What is known of a take, and what can be done with it. */
function tell(take) {
  const { about } = take;
  const midi = take.verb === "midi"; // notes to follow, and no sound to go on from
  const facts = [about.prompt && about.prompt !== take.name && `“${about.prompt}”`, clock(take.duration_s)];
  if (take.kind === "take") facts.push(`seed ${about.seed}`, about.bundle);
  const steer = about.config?.steer ?? {};
  facts.push(steer.tempo_bpm && `${steer.tempo_bpm} BPM`, steer.key_name);
  if (about.melody) facts.push(`follows ${takes.find(about.melody.hash.slice(0, take.id.length))?.name ?? "a melody"}`);
  const kind = { upload: "sound file", midi: "MIDI file" }[take.verb] ?? null;
  describe(take.name, kind, facts.filter(Boolean).join(" · "));
  takes.mark(take.id);
  $("#rename").hidden = true;
  $("#span-hint").hidden = midi || !offers("repaint");
  $("#span-hint").textContent = "Drag on the waveform to choose a span to repaint.";
  const button = (text, action) => {
    const element = make("button", { type: "button", className: "small", textContent: text });
    element.addEventListener("click", action);
    return element;
  };
  const verbs = midi ? [] : Object.entries(VERBS).filter(([verb, texts]) => texts.action && offers(verb));
  const buttons = verbs.map(([verb, texts]) => button(texts.action, () => {
    compose.use(verb, take);
    compose.reveal();
  }));
  if (take.kind === "upload" && service.can_follow) {
    buttons.push(button("Follow its melody", () => {
      compose.use("generate");
      melody.follow(take);
      compose.reveal();
    }));
  }
  const kept = button(take.kept ? "★ Kept" : "☆ Keep", () => attempt(() => keep(takes.find(take.id))));
  kept.setAttribute("aria-pressed", String(take.kept));
  buttons.push(kept, button("Rename", () => rename(take)), downloads(take));
  buttons.push(button("Delete", () => attempt(() => remove(take))));
  $("#actions").replaceChildren(...buttons);
  $("#actions").hidden = false;
}

function describe(title, badge, facts) {
  $("#player-title").textContent = title;
  $("#about-take").textContent = facts;
  $("#badge").hidden = !badge;
  $("#badge").textContent = badge ?? "";
}

function downloads(take) {
  const link = (href, text) => make("a", { href, textContent: text, download: "" });
  const links = FORMATS.map(([suffix, text]) => link(`v1/takes/${take.id}/sound.${suffix}?download=true`, text));
  if (take.kind === "take") links.push(link(`v1/takes/${take.id}/codes.take`, "Take, for the command line"));
  const details = make("details", {}, make("summary", { className: "button small", textContent: "Download" }),
    make("div", { className: "menu" }, ...links));
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    details.open = false;
    $("summary", details).focus();
  });
  details.addEventListener("focusout", (event) => {
    if (!details.contains(event.relatedTarget)) details.open = false;
  });
  return details;
}

async function keep(take) {
  const now = await api.change(take.id, { kept: !take.kept });
  await refresh();
  if (shown?.take?.id === now.id) tell(now);
  say(now.kept ? "Kept." : "Not kept any more.");
}

function rename(take) {
  const form = $("#rename");
  form.hidden = false;
  $("#take-name").value = take.name;
  $("#take-name").select();
  form.onsubmit = (event) => {
    event.preventDefault();
    attempt(async () => {
      tell(await api.change(take.id, { name: $("#take-name").value.trim() }));
      await refresh();
      $("#play").focus();
    });
  };
  $("button[type=button]", form).onclick = () => { form.hidden = true; $("#play").focus(); };
}

async function remove(take) {
  if (!confirm(`Delete “${take.name}” for good?`)) return;
  await api.remove(take.id);
  melody.forget(take.id);
  stop();
  if (compose.take?.id === take.id) compose.use("generate");
  await refresh();
  $("#takes-title").scrollIntoView({ block: "nearest" });
}

/** Sends a sound file; its entry among the takes. */
async function upload(file) {
  const { upload_bytes: most } = service.limits;
  if (file.size > most) {
    const [has, may] = [Math.ceil(file.size / 1e6), Math.floor(most / 1e6)];
    throw new Error(`${file.name} has ${has} MB; ${may} MB are taken at most.`);
  }
  say("The file is being sent.");
  const take = await api.upload(file);
  await refresh();
  return take;
}

async function refresh() {
  takes.show(await api.takes());
}

// -- the page

$("#play").addEventListener("click", toggle);
$("#repeat").addEventListener("change", (event) => { if (player) player.loop = event.target.checked; });
$("#spectrogram").addEventListener("change", (event) => {
  wave.spectrogram(event.target.checked);
  try { localStorage.setItem("spectrogram", event.target.checked); } catch { /* not kept */ }
});
$("#upload").addEventListener("change", (event) => attempt(async () => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) open(await upload(file), false);
}));
document.addEventListener("keydown", (event) => {
  const where = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || !player) return;
  if (where.matches("input, textarea, select, button, summary, a, dialog *")) return;
  const step = { ArrowLeft: -SKIP_S, ArrowRight: SKIP_S }[event.key];
  if (event.key === " ") toggle();
  else if (step) player.currentTime = player.currentTime + step;
  else return;
  event.preventDefault();
});

await attempt(async () => {
  service = await api.about();
  $("#model").textContent = `model ${service.bundle} ${service.bundle_hash}`;
  compose.setUp(service);
  melody.setUp(service);
  let wanted = false;
  try { wanted = localStorage.getItem("spectrogram") === "true"; } catch { /* not kept */ }
  $("#spectrogram").checked = wave.wanted = wanted;
  await refresh();
  for (const job of await api.jobs()) if (["waiting", "running"].includes(job.state)) work.add(job);
});
document.documentElement.dataset.ready = "true"; // for who waits for it
