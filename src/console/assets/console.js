// Everything works without this script, but for three things: pages change by themselves, forms show at once what would
// follow, and ages are counted.
"use strict";

// --- Pages that are open are kept up to date. ---

const live = document.querySelector("[data-seen]");
if (live) {
  const offline = document.getElementById("offline");
  let stream, seen = live.dataset.seen;
  const follow = () => {
    const address = new URL(location.href);
    address.searchParams.set("seen", seen);
    stream = new EventSource(address);
    stream.onopen = () => { offline.hidden = true; };
    stream.onerror = () => { offline.hidden = false; };
    stream.onmessage = (event) => {
      seen = event.lastEventId;
      for (const { id, html } of JSON.parse(event.data)) replace(id, html);
      countAges();
    };
  };
  follow();
  // A browser has few connections to one server: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => {
    stream.close();
    if (!document.hidden) follow();
  });
}

// Puts HTML in the place of an element, and leaves the focus where it was and what was unfolded unfolded.
function replace(id, html) {
  const old = document.getElementById(id);
  // What the page is about has gone, or it has become another page.
  if (!old) return location.reload();
  if (old.outerHTML === html) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const link = focused?.getAttribute("href"), own = focused?.id;
  const scrolled = old.scrollTop, unfolded = old.querySelector("details")?.open;
  old.outerHTML = html;
  const made = document.getElementById(id);
  made.scrollTop = scrolled;
  if (unfolded) made.querySelector("details")?.setAttribute("open", "");
  const again = own ? document.getElementById(own) : link && made.querySelector(`a[href="${CSS.escape(link)}"]`);
  if (again) again.focus({ preventScroll: true });
}

// --- Ages. ---

function age(seconds) {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function countAges() {
  for (const time of document.querySelectorAll("time[data-age]")) {
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000));
    time.title = time.dateTime;
    time.textContent = age(seconds) + (time.dataset.age === "ago" ? " ago" : "");
  }
}
countAges();
setInterval(countAges, 1000);

// --- Forms show what would follow. ---

const form = document.querySelector("form[data-preview]");
if (form) {
  let timer, asked = 0;
  const ask = async () => {
    const number = ++asked;
    const body = new URLSearchParams(new FormData(form));
    body.set("preview", "yes");
    const answer = await fetch(form.action, { method: "POST", body });
    // An answer that has been overtaken says nothing any more.
    if (answer.ok && number === asked) replace("preview", await answer.text());
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 150);
  });
}

// --- Copying. ---

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers have no clipboard for pages that came from another machine without encryption.
    getSelection().selectAllChildren(text);
    button.textContent = "Selected";
  }
});
