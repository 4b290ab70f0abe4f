// Small helpers: elements, and times in words.

export const $ = (selector, within = document) => within.querySelector(selector);

/** An element with properties (those with a dash, and role, as attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** 75.25 -> "1:15". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** "1:15", "75" or "75.5" -> seconds; NaN for what is no time. */
export function seconds(text) {
  const parts = String(text).trim().split(":").map((part) => (/^\d+(\.\d+)?$/.test(part) ? Number(part) : NaN));
  return parts.length > 3 ? NaN : parts.reduce((sum, part) => sum * 60 + part, 0);
}

/** How long something takes, for people. */
export function about(seconds) {
  if (seconds < 1.5) return "a second";
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** Tells screen readers, without moving anything. */
export function say(line) {
  $("#said").textContent = line;
}

const problem = $("#problem");
$("button", problem).addEventListener("click", () => { problem.hidden = true; });

/** An error as the one line that it is; nothing takes the last one away. */
export function complain(error) {
  problem.hidden = !error;
  $("span", problem).textContent = error ? error.message || String(error) : "";
}
