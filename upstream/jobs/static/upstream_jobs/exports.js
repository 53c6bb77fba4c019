// Keeps the exports of a page up to date while some of them run. Without this script a link reloads the page.
const SECONDS = 1;
const MOST_SECONDS = 30;
let seconds = SECONDS;
let timer = 0;

const live = () => document.querySelector("[data-live]");

// The parts of an export that change while its state stays: so what has the focus keeps it.
function update(shown, fresh) {
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = shown.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!old) continue;
    if (part.tagName !== "PROGRESS") old.textContent = part.textContent;
    else if (part.hasAttribute("value")) old.value = part.value;
  }
}

function replace(shown, fresh) {
  const hadFocus = shown.contains(document.activeElement);
  shown.replaceWith(fresh);
  document.querySelector("[data-said]").textContent = fresh.dataset.words;
  if (hadFocus) fresh.querySelector("a, button")?.focus();
}

function show(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("[data-live]");
  const key = (job) => job.dataset.job;
  const [before, after] = [live(), fresh].map((part) => [...part.querySelectorAll("[data-job]")]);
  if (before.map(key).join() !== after.map(key).join()) {
    live().replaceWith(fresh);
    return;
  }
  before.forEach((job, at) => {
    if (job.dataset.state === after[at].dataset.state) update(job, after[at]);
    else replace(job, after[at]);
  });
  Object.assign(live().dataset, { etag: fresh.dataset.etag, active: fresh.dataset.active });
}

async function look() {
  const { live: url, etag } = live().dataset;
  try {
    const response = await fetch(url, { headers: { "If-None-Match": etag }, cache: "no-store" });
    if (response.redirected || (response.status >= 400 && response.status < 500)) return; // logged out, or gone
    if (response.status === 200) show(await response.text());
    seconds = response.status < 400 ? SECONDS : Math.min(seconds * 2, MOST_SECONDS);
  } catch {
    seconds = Math.min(seconds * 2, MOST_SECONDS); // the server is not there, for now
  }
  wait();
}

function wait() {
  clearTimeout(timer);
  if (live()?.dataset.active === "true" && !document.hidden) timer = setTimeout(look, seconds * 1000);
}

document.addEventListener("visibilitychange", wait);
wait();
