// What every page has: focus on what went wrong, forms that are sent once, countdowns, and the choice of language at once.
"use strict";
(() => {
  const wrong = document.querySelector("[data-focus]");
  if (wrong) wrong.focus();

  // A form is sent once; the page that comes back, from the browser's memory too, takes it again. What is wrong with it the page says, in its own language;
  // the browser's bubble would say it in the browser's.
  for (const form of document.forms) {
    form.noValidate = true;
    form.addEventListener("submit", (e) => {
      if (form.dataset.sent && !form.dataset.again) { e.preventDefault(); return; }
      form.dataset.sent = "yes";
    });
  }
  addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });

  // <span data-countdown="seconds" data-text="{m}:{s}"> counts down; at the end what has data-at-end="show|hide|open" with the same data-for changes.
  for (const el of document.querySelectorAll("[data-countdown]")) {
    const end = Date.now() + Number(el.dataset.countdown) * 1000;
    const tick = () => {
      const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
      el.textContent = Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
      if (left > 0) { setTimeout(tick, 1000 - (Date.now() % 1000)); return; }
      for (const other of document.querySelectorAll(`[data-for="${el.id}"]`)) {
        if (other.dataset.atEnd === "hide") other.hidden = true;
        else { other.hidden = false; if (other.disabled) other.disabled = false; }
      }
    };
    el.hidden = false;
    for (const other of document.querySelectorAll(`[data-for="${el.id}"][data-at-end="open"]`)) other.disabled = true;
    tick();
  }

  // <body data-refresh="seconds"> waits for something: it asks every so often whether the page would lead on by now, and goes only then, so that nobody
  // who reads it, or has it read out, is thrown back to its beginning.
  const every = Number(document.body.dataset.refresh || 0) * 1000;
  const ask = async () => {
    const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
    if (answer && answer.type === "opaqueredirect") location.reload();
    else setTimeout(ask, every);
  };
  if (every) setTimeout(ask, every);

  for (const el of document.querySelectorAll("[data-script]")) el.hidden = false; // what only works with scripts
  const language = document.getElementById("language");
  if (language) {
    language.form.querySelector("button").hidden = true;
    language.addEventListener("change", () => language.form.requestSubmit());
  }
})();
