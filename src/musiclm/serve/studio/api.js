// The service. Every error is an Error whose message is the service's own line.

import { $ } from "./dom.js";

async function answer(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The service can't be reached. Is `musiclm serve` still running?");
  }
  if (response.status === 401) {
    await signIn();
    return answer(path, options);
  }
  if (response.ok) return response;
  let line = `${response.status} ${response.statusText}`;
  try {
    line = (await response.json()).detail || line;
  } catch { /* no JSON: the status is all there is */ }
  throw new Error(line[0].toUpperCase() + line.slice(1));
}

const asJson = (method, body) => ({
  method,
  headers: { accept: "application/json", "content-type": "application/json" },
  body: JSON.stringify(body),
});

export const sound = (path, signal) => answer(path, { signal });
export const about = async () => (await answer("v1/about")).json();
export const takes = async () => (await (await answer("v1/takes")).json()).takes;
export const jobs = async () => (await (await answer("v1/jobs")).json()).jobs;
export const start = async (verb, request) => (await answer(`v1/${verb}`, asJson("POST", request))).json();
export const cancel = (job) => answer(`v1/jobs/${job}`, { method: "DELETE" });
export const change = async (take, what) => (await answer(`v1/takes/${take}`, asJson("PATCH", what))).json();
export const remove = (take) => answer(`v1/takes/${take}`, { method: "DELETE" });
export const upload = async (file) => {
  const name = encodeURIComponent(file.name.slice(0, 200));
  return (await answer(`v1/uploads?name=${name}`, { method: "POST", body: file })).json();
};

/** Tells of a job until it has ended; what it was then. */
export function follow(job, onProgress) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`v1/jobs/${job}/events`);
    let failures = 0;
    events.addEventListener("progress", (event) => { failures = 0; onProgress(JSON.parse(event.data)); });
    events.addEventListener("end", (event) => { events.close(); resolve(JSON.parse(event.data)); });
    events.addEventListener("error", () => {
      failures += 1;
      if (failures < 5 && events.readyState !== EventSource.CLOSED) return; // it connects again by itself
      events.close();
      reject(new Error("The service stopped telling how far the music is. Is it still running?"));
    });
  });
}

let asking = null;

/** Asks for the API key until it is right. */
function signIn() {
  asking ??= new Promise((resolve) => {
    const dialog = $("#sign-in");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    $("form", dialog).onsubmit = async (event) => {
      event.preventDefault();
      const response = await fetch("v1/session", asJson("POST", { key: $("#key").value }));
      $("#key").value = "";
      if (!response.ok) {
        $(".wrong", dialog).textContent = "This is not the key.";
        return;
      }
      dialog.close();
      asking = null;
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}
