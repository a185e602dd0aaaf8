// Keeps the page current: at every change it fetches the page again and swaps in what differs. Cards that stay are not touched, so an
// opened detail stays open and no frame loads twice. Without this script the page works and is reloaded by hand.
"use strict";
(() => {
  let running = false, again = false;

  async function refresh() {
    if (running) { again = true; return; }
    running = true;
    try {
      do {
        again = false;
        const response = await fetch("/", { cache: "no-store" });
        if (response.ok) merge(new DOMParser().parseFromString(await response.text(), "text/html"));
      } while (again);
    } catch { /* the server went away; the event stream connects again and asks anew */ }
    running = false;
  }

  function merge(next) {
    const list = document.getElementById("list");
    const old = new Map([...list.children].map((li) => [li.dataset.id, li]));
    const wanted = [...next.getElementById("list").children];
    const ids = new Set(wanted.map((li) => li.dataset.id));
    for (const [id, li] of old) if (!ids.has(id)) li.remove();
    let place = list.firstElementChild;
    for (const li of wanted) {
      if (old.has(li.dataset.id)) { place = old.get(li.dataset.id).nextElementSibling; continue; }
      list.insertBefore(document.adoptNode(li), place);
    }
    const rules = document.querySelector("#faults ul"), newRules = next.querySelector("#faults ul");
    if (rules.textContent !== newRules.textContent) rules.replaceWith(document.adoptNode(newRules));
    for (const id of ["empty", "clear", "faults"]) document.getElementById(id).hidden = next.getElementById(id).hidden;
    const count = next.getElementById("count").textContent;
    if (document.getElementById("count").textContent !== count) document.getElementById("count").textContent = count;
  }

  document.getElementById("clear").addEventListener("submit", (event) => {
    event.preventDefault();
    fetch("/api/messages", { method: "DELETE" }).then(refresh, () => event.target.submit());
  });
  document.querySelector("#faults form").addEventListener("submit", (event) => {
    event.preventDefault();
    fetch("/api/faults", { method: "DELETE" }).then(refresh, () => event.target.submit());
  });
  new EventSource("/events").addEventListener("change", refresh);
})();
