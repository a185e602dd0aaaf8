// The field for a code: what is pasted loses its spaces and dashes, and a whole code is sent at once where its length is known, unless the one before was
// wrong, the form has a box that could still be ticked, or (data-press) it is to be sent by its button only.
"use strict";
(() => {
  const field = document.getElementById("code");
  if (!field) return;
  const digits = Number(field.dataset.digits || 0);
  const plain = () => field.value.replace(/[\s\-–—.]/g, "").normalize("NFKC");
  field.addEventListener("paste", (e) => {
    const text = (e.clipboardData || { getData: () => "" }).getData("text");
    if (!/\d/.test(text)) return;
    const found = digits ? text.normalize("NFKC").replace(/[\s\-–—.]/g, "").match(new RegExp(`(^|\\D)(\\d{${digits}})(?!\\d)`)) : null;
    if (!found) return;
    e.preventDefault();
    field.value = found[2];
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
  field.addEventListener("input", () => {
    if (!digits || "press" in field.form.dataset || field.getAttribute("aria-invalid") || field.form.querySelector("input[type=checkbox]:not(:checked)")) return;
    if (plain().length === digits && /^\d+$/.test(plain())) field.form.requestSubmit();
  });
})();
