// The console works without this script. It adds three things: open pages are kept up to date, forms show a preview
// while they are filled in, and times are shown as ages.
"use strict";

// --- Keep open pages up to date. ---

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
  // A browser opens only a few connections to one server, so hidden pages close theirs.
  document.addEventListener("visibilitychange", () => {
    stream.close();
    if (!document.hidden) follow();
  });
}

// Updates an element to this HTML.
function replace(id, html) {
  const old = document.getElementById(id);
  // The object of the page is gone, or the page has other fragments now.
  if (!old) return location.reload();
  const template = document.createElement("template");
  template.innerHTML = html;
  become(old, template.content.firstElementChild);
}

// Changes only what differs, and keeps every element that is still there. So a click, the focus, a selection, a scroll
// position and unfolded details survive a change around them.
function become(old, made) {
  if (old.isEqualNode(made)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== made.nodeName || name(old) !== name(made))
    return old.replaceWith(made);
  const unfolded = (attribute) => old.nodeName === "DETAILS" && attribute.name === "open";
  for (const attribute of [...old.attributes])
    if (!made.hasAttribute(attribute.name) && !unfolded(attribute)) old.removeAttribute(attribute.name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  // Remove first: most elements that stay are then in the right place, and need not be moved.
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

// Removes a node, and returns its next sibling.
function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// Moves an element among its siblings, with as much of its state as the browser can keep.
function move(parent, node, before) {
  if (parent.moveBefore) parent.moveBefore(node, before);
  else parent.insertBefore(node, before);
}

// Identifies an element among its siblings: its id, or the address of a link.
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

// --- Preview of forms. ---

const form = document.querySelector("form[data-preview]");
if (form) {
  let timer, asked = 0;
  const ask = async () => {
    const number = ++asked;
    const body = new URLSearchParams(new FormData(form));
    body.set("preview", "yes");
    const answer = await fetch(form.action, { method: "POST", body });
    // Ignore the answer if a newer request has been sent.
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
    // Browsers give no clipboard to pages that came unencrypted from another machine.
    getSelection().selectAllChildren(text);
    button.textContent = "Selected";
  }
});
