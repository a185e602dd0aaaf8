// Copying and printing. A button with data-copy="#id" copies that element's text; with data-print it prints the page. The form around it is then sent in the
// background (fetch), so that the server knows that the codes are kept; what has data-kept is shown, what has data-unkept is
// hidden, and what has data-needs-kept opened.
"use strict";
(() => {
  const kept = () => {
    for (const el of document.querySelectorAll("[data-kept]")) el.hidden = false;
    for (const el of document.querySelectorAll("[data-unkept]")) el.hidden = true;
    for (const el of document.querySelectorAll("[data-needs-kept]")) { el.removeAttribute("aria-disabled"); el.removeAttribute("aria-describedby"); }
  };
  const tell = (form) => fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "application/json" } });
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async (e) => {
      e.preventDefault();
      const text = document.querySelector(button.dataset.copy).innerText.trim();
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        const area = document.createElement("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      const said = document.getElementById(button.dataset.said || "");
      if (said) { said.textContent = button.dataset.done; }
      if (button.form && (await tell(button.form)).ok) kept();
    });
  }
  for (const button of document.querySelectorAll("[data-print]")) {
    button.addEventListener("click", async (e) => {
      e.preventDefault();
      print();
      if ((await tell(button.form)).ok) kept();
    });
  }
  for (const form of document.querySelectorAll("form[data-download]")) { // the download leaves the page as it is
    form.dataset.again = "yes";
    form.addEventListener("submit", () => setTimeout(kept, 300));
  }
})();
