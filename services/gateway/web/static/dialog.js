// A question over the page: a button with data-dialog="id" opens that dialog in place of sending its form. The dialog's own forms send or close it; Escape
// closes it too, and the browser then puts the focus back where it was.
"use strict";
(() => {
  for (const button of document.querySelectorAll("[data-dialog]")) {
    const dialog = document.getElementById(button.dataset.dialog);
    if (!dialog || !dialog.showModal) continue;
    button.type = "button";
    button.addEventListener("click", () => dialog.showModal());
  }
})();
