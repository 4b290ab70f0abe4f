// The form: what is asked for, of which verb, from which take.

import { $, make, clock } from "./dom.js";
import { EXAMPLES, KEYS, VERBS } from "./verbs.js";
import { Story } from "./story.js";

const NUMBERS = ["duration_s", "seed", "tempo_bpm", "guidance", "temperature", "from_s", "to_s", "strength", "blend_s"];

export class Compose {
  /** onAsk: gets (verb, request). onSpan: gets a span that was typed, or null. */
  constructor(onAsk, onSpan) {
    this.form = $("#form");
    this.take = null; // what it goes on from
    this._onSpan = onSpan;
    this._durations = { generate: "10", continue: "10", story: "60" };
    for (const key of KEYS) this.form.elements.key.append(make("option", { value: key, textContent: key }));
    for (const text of EXAMPLES) {
      const button = make("button", { type: "button", className: "small", textContent: text });
      button.addEventListener("click", () => {
        this.form.elements.prompt.value = text;
        $("#examples").open = false;
        this.form.elements.prompt.focus();
      });
      $("#examples ul").append(make("li", {}, button));
    }
    this.story = new Story($("#story"), () => Number(this.form.elements.duration_s.value));
    $("#new-seed").addEventListener("click", () => this.newSeed());
    $("#back").addEventListener("click", () => this.use("generate"));
    this.form.addEventListener("change", (event) => {
      if (event.target.name === "kind") this.use(event.target.value);
      if (event.target.name === "duration_s") this.story.blocks();
    });
    this.form.addEventListener("input", (event) => {
      if (["from_s", "to_s"].includes(event.target.name)) this._onSpan(this.span());
      if (event.target.name === "strength") this._strength();
    });
    this.form.addEventListener("submit", (event) => { event.preventDefault(); onAsk(this.verb, this.request()); });
    this._strength();
    this.use("generate");
  }

  /** The service's verbs and limits. */
  setUp(about) {
    this.offered = about.verbs.map((verb) => verb.name);
    $("#kinds").hidden = !this.offered.includes("story");
    this.form.elements.duration_s.max = about.limits.duration_s;
    for (const name of ["tempo_bpm", "key"]) this.form.elements[name].disabled = !about.can_steer;
  }

  /** Asks for a verb, of a take if it works on one. */
  use(verb, take = null) {
    const texts = VERBS[verb];
    const elements = this.form.elements;
    if (this.verb in this._durations) this._durations[this.verb] = elements.duration_s.value;
    this.verb = verb;
    this.take = take;
    for (const element of this.form.querySelectorAll("[data-field]")) {
      element.hidden = !texts.fields.includes(element.dataset.field);
    }
    elements.duration_s.value = this._durations[verb] ?? "";
    elements.duration_s.placeholder = texts.optional ? "all bars" : "";
    $("#compose-title").textContent = texts.title;
    $("#make").textContent = texts.button;
    $("#back").hidden = !take;
    $("#kinds").hidden = Boolean(take) || !(this.offered || []).includes("story");
    $("#from").hidden = !take;
    $("#from").textContent = take ? `${texts.from} “${take.name}”, ${clock(take.duration_s)}.` : "";
    $("label[for=prompt]").textContent = take ? texts.prompt : "What is it like?";
    elements.prompt.placeholder = take ? "" : "a calm piano piece";
    if (take) elements.prompt.value = "";
    if (take && texts.span && this.span() === null) {
      const middle = take.duration_s / 2;
      const half = Math.min(2, take.duration_s / 4);
      this.setSpan({ start: Math.max(0, middle - half), end: Math.min(take.duration_s, middle + half) });
    }
    if (!take) elements.kind.value = verb;
    if (verb === "story") this.story.draw();
    this._onSpan(texts.span ? this.span() : null);
    return this;
  }

  /** Shows it: on a phone it is not in sight. */
  reveal() {
    $("#compose").scrollIntoView({ block: "nearest" });
    const first = this.form.querySelector("[data-field]:not([hidden]) :is(textarea, input)");
    (first || $("#make")).focus();
  }

  newSeed() {
    this.form.elements.seed.value = Math.floor(Math.random() * 1e9);
  }

  setSpan({ start, end }) {
    const rounded = (value) => String(Math.round(value * 100) / 100);
    this.form.elements.from_s.value = rounded(start);
    this.form.elements.to_s.value = rounded(end);
  }

  /** The span that was typed or dragged, or null. */
  span() {
    const { from_s: from, to_s: to } = this.form.elements;
    if (from.value === "" || to.value === "" || Number(to.value) <= Number(from.value)) return null;
    return { start: Number(from.value), end: Number(to.value) };
  }

  forgetSpan() {
    this.form.elements.from_s.value = this.form.elements.to_s.value = "";
  }

  /** What is to be sent: only what was filled in, of the fields that the verb has. */
  request() {
    const texts = VERBS[this.verb];
    const asked = this.take ? { take: this.take.id } : {};
    for (const name of texts.fields) {
      if (name === "story") Object.assign(asked, this.story.request());
      const value = this.form.elements[name]?.value?.trim?.();
      if (name === "story" || value === undefined || value === "" || this.form.elements[name].disabled) continue;
      asked[name] = NUMBERS.includes(name) ? Number(value) : value;
    }
    return asked;
  }

  _strength() {
    const value = Number(this.form.elements.strength.value);
    const words = value < 0.05 ? "the same notes, another sound" : value > 0.95 ? "a cousin" : "";
    $(".range output").textContent = words || `${Math.round(value * 100)} %`;
  }
}
