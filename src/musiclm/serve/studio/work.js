// What is being made: how far it is, how long it still takes, and a way to stop it.

import { $, make, about, clock, say } from "./dom.js";
import * as api from "./api.js";

export class Work {
  /** onListen(job), onEnd(job). */
  constructor(onListen, onEnd, onProblem) {
    this._onListen = onListen;
    this._onEnd = onEnd;
    this._onProblem = onProblem;
    this._rows = new Map();
  }

  /** Follows a job to its end. */
  async add(job) {
    if (this._rows.has(job.id)) return;
    const row = this._row(job);
    this._rows.set(job.id, row);
    $("#work ul").append(row.item);
    $("#work").hidden = false;
    this._tell(row, job);
    let ended = null;
    try {
      ended = await api.follow(job.id, (state) => this._tell(row, state));
    } catch (error) {
      this._onProblem(error);
    }
    row.item.remove();
    this._rows.delete(job.id);
    $("#work").hidden = this._rows.size === 0;
    if (ended) this._onEnd(ended);
  }

  _row(job) {
    const name = job.request.prompt || job.request.sections?.[0]?.prompt || "music without a prompt";
    const state = make("span", { className: "quiet" });
    const bar = make("progress", { max: 1, "aria-label": `How much of “${name}” is made` });
    const listen = make("button", { type: "button", className: "small", textContent: "Listen" });
    const cancel = make("button", { type: "button", className: "small", textContent: "Cancel" });
    listen.setAttribute("aria-label", `Listen to ${name}`);
    cancel.setAttribute("aria-label", `Cancel ${name}`);
    listen.addEventListener("click", () => this._onListen(job));
    cancel.addEventListener("click", async () => {
      cancel.disabled = true;
      try { await api.cancel(job.id); } catch (error) { this._onProblem(error); }
    });
    const item = make("li", {}, make("span", { className: "name", textContent: name }),
      make("div", { className: "buttons" }, listen, cancel), make("div", {}, bar, state));
    item.dataset.job = job.id;
    return { item, bar, state, listen };
  }

  _tell(row, job) {
    row.listen.hidden = job.made_s === 0;
    if (job.state === "waiting") {
      row.bar.removeAttribute("value");
      row.state.textContent = job.ahead ? `Waits; ${job.ahead} before it` : "Waits";
      return;
    }
    row.bar.value = job.share;
    const left = job.left_s === null ? "" : `, ${about(job.left_s)} left`;
    row.state.textContent = `${clock(job.made_s)} of ${clock(job.duration_s ?? 0)} made${left}`;
  }

  /** Says how a job ended, to who can't see it. */
  static announce(job) {
    say({ done: "The music is made.", cancelled: "Cancelled." }[job.state] ?? "");
  }
}
