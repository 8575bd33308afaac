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

// Makes an element what this HTML says.
function replace(id, html) {
  const old = document.getElementById(id);
  // What the page is about has gone, or it has become another page.
  if (!old) return location.reload();
  const template = document.createElement("template");
  template.innerHTML = html;
  become(old, template.content.firstElementChild);
}

// Changes only what differs: a click, the focus, a selection and what is scrolled or unfolded outlive a change around
// them, as an element that is there again stays the one it was.
function become(old, made) {
  if (old.isEqualNode(made)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== made.nodeName || name(old) !== name(made))
    return old.replaceWith(made);
  const unfolded = (attribute) => old.nodeName === "DETAILS" && attribute.name === "open";
  for (const attribute of [...old.attributes])
    if (!made.hasAttribute(attribute.name) && !unfolded(attribute)) old.removeAttribute(attribute.name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  // What goes, goes first: an element that stays is then where it belongs, and is not moved.
  const kept = new Set([...made.childNodes].map(name).filter(Boolean));
  for (const child of [...old.childNodes]) if (name(child) && !kept.has(name(child))) child.remove();
  const named = new Map([...old.childNodes].filter(name).reverse().map((child) => [name(child), child]));
  let next = old.firstChild;
  for (const child of [...made.childNodes]) {
    const same = name(child) ? named.get(name(child)) : next && !name(next) ? next : null;
    named.delete(name(child));
    while (same && next && next !== same && !name(next)) next = removed(next);
    if (same && same === next) next = next.nextSibling;
    else if (same) move(old, same, next);
    else old.insertBefore(child, next);
    if (same) become(same, child);
  }
  while (next) next = removed(next);
}

// Removes a node, and returns the one behind it.
function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// Moves an element among its siblings; it keeps what it can in this browser.
function move(parent, node, before) {
  if (parent.moveBefore) parent.moveBefore(node, before);
  else parent.insertBefore(node, before);
}

// What tells an element from the others beside it: its id, or where it leads.
function name(node) {
  return node.getAttribute?.("id") ?? node.getAttribute?.("href");
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
