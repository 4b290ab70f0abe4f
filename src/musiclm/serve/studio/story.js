// A story as blocks on a timeline: prompts, and the times from which they hold.

import { make, clock, seconds } from "./dom.js";

const BEGINNING = [
  { at_s: 0, prompt: "calm piano" },
  { at_s: 30, prompt: "heavy metal with drums" },
];
/** As "1:05" or "1:05.5". */
const precise = (at_s) => clock(at_s) + (at_s % 1 ? (at_s % 1).toFixed(1).slice(1) : "");

const STEP_S = 1; // that an arrow key moves a beginning by

export class Story {
  /** duration: gives how long the whole is, in seconds. */
  constructor(place, duration) {
    this.place = place;
    this.duration = duration;
    this.sections = structuredClone(BEGINNING);
    this.current = 0;
  }

  request() {
    return { sections: this.sections.map(({ at_s, prompt }) => ({ at_s, prompt })) };
  }

  /** Draws all of it; focus: the name of a field that then has the focus. */
  draw(focus = null) {
    this.strip = make("div", { className: "blocks", role: "group", "aria-label": "Timeline of the story" });
    const lines = make("ol", { className: "story-lines" });
    this.sections.forEach((section, index) => lines.append(this._line(section, index)));
    const add = make("button", { type: "button", className: "small", textContent: "Add a section" });
    add.addEventListener("click", () => this._add(this.duration() || 60));
    this.place.replaceChildren(make("span", { className: "label", textContent: "Story" }), this.strip, lines, add);
    this.blocks();
    if (focus) this.place.querySelector(`[name="${focus}"]`)?.focus();
  }

  /** Draws the timeline alone, so that nobody who types below it is disturbed. */
  blocks() {
    if (!this.strip) return;
    const whole = this.duration() || 60;
    this.strip.replaceChildren(...this.sections.map((section, index) => {
      const end = this.sections[index + 1]?.at_s ?? whole;
      const block = make("button", { type: "button", textContent: section.prompt || "…" });
      block.style.flexGrow = Math.max(0.05, (end - section.at_s) / whole);
      block.setAttribute("aria-pressed", String(index === this.current));
      block.setAttribute("aria-label",
        `Section ${index + 1}, from ${clock(section.at_s)} to ${clock(end)}: ${section.prompt || "no prompt yet"}. ` +
        "Left and right move its beginning.");
      block.addEventListener("click", () => { this.current = index; this.draw(`prompt-${index}`); });
      block.addEventListener("keydown", (event) => this._arrow(event, index));
      block.addEventListener("pointerdown", (event) => this._drag(event, index, whole));
      return block;
    }));
  }

  _line(section, index) {
    const from = make("input", {
      value: precise(section.at_s), name: `at-${index}`, disabled: index === 0, inputMode: "numeric",
    });
    const prompt = make("input", { value: section.prompt, name: `prompt-${index}`, maxLength: 10000 });
    const remove = make("button", {
      type: "button", className: "small plain", textContent: "×", disabled: this.sections.length < 2,
    });
    remove.setAttribute("aria-label", `Remove section ${index + 1}`);
    from.addEventListener("change", () => {
      const at = seconds(from.value);
      if (Number.isFinite(at)) section.at_s = at;
      this._order();
      from.value = precise(section.at_s);
      if (this.sections[index] === section) this.blocks();
      else this.draw(`at-${this.sections.indexOf(section)}`);
    });
    from.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); from.blur(); } // it is set, not sent
    });
    prompt.addEventListener("input", () => { section.prompt = prompt.value; this.blocks(); });
    remove.addEventListener("click", () => {
      this.sections.splice(index, 1);
      this.sections[0].at_s = 0;
      this.current = Math.min(this.current, this.sections.length - 1);
      this.draw(`prompt-${this.current}`);
    });
    return make("li", {},
      make("label", {}, "From", from), make("label", {}, `Section ${index + 1}`, prompt), remove);
  }

  _add(whole) {
    const last = this.sections.at(-1).at_s;
    this.sections.push({ at_s: Math.round((last + whole) / 2), prompt: "" });
    this.current = this.sections.length - 1;
    this.draw(`prompt-${this.current}`);
  }

  _order() {
    this.sections.sort((a, b) => a.at_s - b.at_s);
    this.sections[0].at_s = 0;
  }

  /** Where a section may begin: after the one before it, before the one after it. */
  _move(index, at_s) {
    if (index === 0) return;
    const low = this.sections[index - 1].at_s + 1;
    const high = (this.sections[index + 1]?.at_s ?? this.duration()) - 1;
    this.sections[index].at_s = Math.min(Math.max(low, Math.round(at_s)), Math.max(low, high));
  }

  _arrow(event, index) {
    const step = { ArrowLeft: -STEP_S, ArrowRight: STEP_S }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this._move(index, this.sections[index].at_s + step);
    this.draw();
    this.place.querySelectorAll(".blocks button")[index].focus();
  }

  /** Dragging a block moves where it begins. */
  _drag(event, index, whole) {
    if (index === 0) return;
    const [begun, from, width] = [event.clientX, this.sections[index].at_s, this.strip.clientWidth];
    let moved = false;
    const move = (now) => {
      if (!moved && Math.abs(now.clientX - begun) < 4) return;
      moved = true;
      this._move(index, from + ((now.clientX - begun) / width) * whole);
      const blocks = this.strip.querySelectorAll("button");
      this.sections.forEach((section, place) => {
        blocks[place].style.flexGrow = ((this.sections[place + 1]?.at_s ?? whole) - section.at_s) / whole;
      });
    };
    const end = () => {
      removeEventListener("pointermove", move);
      if (moved) { this.current = index; this.draw(); }
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end, { once: true });
  }
}
