// The list of takes, as a tree: what was made from a take stands below it.

import { $, make, clock } from "./dom.js";

const WORDS = {
  continue: "goes on", repaint: "repainted", vary: "varied", loop: "loop", story: "story",
  upload: "sound file", midi: "MIDI file",
};

export class Takes {
  /** onOpen(take), onKeep(take): what a click does. */
  constructor(onOpen, onKeep) {
    this._onOpen = onOpen;
    this._onKeep = onKeep;
    this.all = [];
    this.current = null;
  }

  find(id) { return this.all.find((take) => take.id === id); }

  show(takes) {
    const focused = document.activeElement?.closest?.("[data-take]")?.dataset.take;
    const inKeep = document.activeElement?.classList.contains("keep");
    this.all = takes;
    const known = new Set(takes.map((take) => take.id));
    const below = (parent) => takes.filter((take) => (known.has(take.parent) ? take.parent : null) === parent);
    const roots = below(null).reverse(); // the newest first; what was made of one, in order
    $("#tree").replaceChildren(...roots.map((take) => this._item(take, below)));
    $("#no-takes").hidden = takes.length > 0;
    if (focused) $(`[data-take="${focused}"] ${inKeep ? ".keep" : ".open"}`)?.focus();
  }

  mark(id) {
    this.current = id;
    for (const row of document.querySelectorAll(".take")) {
      row.dataset.current = String(row.dataset.take === id);
      if (row.dataset.take === id) $(".open", row).setAttribute("aria-current", "true");
      else $(".open", row).removeAttribute("aria-current");
    }
  }

  _item(take, below) {
    const facts = [WORDS[take.verb], clock(take.duration_s)].filter(Boolean).join(" · ");
    const open = make("button", { type: "button", className: "open" },
      make("span", { className: "name", textContent: take.name }),
      make("span", { className: "facts", textContent: facts }));
    open.addEventListener("click", () => this._onOpen(take));
    const keep = make("button", { type: "button", className: "keep", textContent: take.kept ? "★" : "☆" });
    keep.setAttribute("aria-pressed", String(take.kept));
    keep.setAttribute("aria-label", `Keep ${take.name}`);
    keep.title = "What is not kept makes room for new takes, once there are many";
    keep.addEventListener("click", () => this._onKeep(take));
    const row = make("div", { className: "take" }, open, keep);
    row.dataset.take = take.id;
    row.dataset.current = String(take.id === this.current);
    if (take.id === this.current) open.setAttribute("aria-current", "true");
    const children = below(take.id);
    const item = make("li", {}, row);
    if (children.length) item.append(make("ul", {}, ...children.map((child) => this._item(child, below))));
    return item;
  }
}
