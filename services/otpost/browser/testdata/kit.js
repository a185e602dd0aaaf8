// How the tests find things on a page: by what people read. An object of functions, made anew for each question, so that nothing of it stays on the page
// but the mark on a document that is about to be left.
(() => {
  // Chromium throws away what is pressed before a page is painted for the first time.
  const ready = () => document.readyState === "complete" && performance.getEntriesByName("first-contentful-paint").length > 0;
  const flat = (s) => (s || "").replace(/\s+/g, " ").trim();
  const seen = (el) => el.getClientRects().length > 0 && el.checkVisibility({ visibilityProperty: true });
  const name = (el) => flat(el.getAttribute("aria-label") || el.innerText || el.value);
  const dialog = () => document.querySelector("dialog[open]");
  const places = () => (dialog() ? [dialog()] : [document.querySelector("main") || document.body, document.body]);

  // best is what is named so, or begins so, or contains it; the first of these that anything fits.
  const best = (list, text) => {
    for (const fits of [(n) => n === text, (n) => n.startsWith(text), (n) => n.includes(text)]) {
      const found = list.filter((el) => fits(name(el)));
      if (found.length) return found;
    }
    return [];
  };
  const search = (selector, text) => {
    for (const place of places()) {
      const found = best([...place.querySelectorAll(selector)].filter(seen), text);
      if (found.length) return found;
    }
    return [];
  };
  const spot = (el, found, text) => {
    if (!el) return { fault: "there is no " + text };
    if (found.length > 1) return { fault: found.length + " are named " + text };
    if (el.disabled) return { fault: text + " cannot be used" };
    el.scrollIntoView({ block: "center", behavior: "instant" });
    const box = el.getClientRects()[0];
    const x = box.left + box.width / 2, y = box.top + box.height / 2;
    const top = document.elementFromPoint(x, y);
    const free = top && (el.contains(top) || top.contains(el) || (top.closest("label") && top.closest("label").control === el));
    if (!free) return { fault: text + " is covered" };
    return { x, y, kind: el.localName };
  };
  const labelled = (text) => {
    for (const place of places()) {
      const controls = [...place.querySelectorAll("input:not([type=hidden]), select, textarea")].filter(seen);
      for (const fits of [(n) => n === text, (n) => n.startsWith(text)]) {
        const found = controls.filter((el) => [...(el.labels || [])].some((l) => fits(flat(l.innerText))));
        if (found.length) return found;
      }
    }
    return [];
  };
  return {
    where: () => (ready() && !document.left ? location.pathname : ""),
    address: () => location.href,
    text: () => (document.body ? document.body.innerText : ""),
    reads: (text) => (ready() && flat(document.body.innerText).includes(flat(text)) ? "" : text),
    clickable: (text) => {
      if (!ready()) return { fault: "the page is not there yet" };
      const found = search("a[href], button, summary", text);
      const s = spot(found[0], found, text);
      const el = found[0];
      const leaves = el && (el.localName === "a" || (el.type === "submit" && el.form && el.form.method === "post"));
      const stays = el && (el.hasAttribute("data-copy") || el.hasAttribute("data-print") || el.form?.hasAttribute("data-download"));
      if (!s.fault && leaves && !stays) document.left = true;
      return s;
    },
    field: (text) => {
      if (!ready()) return { fault: "the page is not there yet" };
      const found = labelled(text);
      return spot(found[0], found, text);
    },
    selected: (text) => { const el = labelled(text)[0]; el.focus(); el.select(); return true; },
    choose: (text, value) => {
      const el = labelled(text)[0];
      const o = [...el.options].find((o) => flat(o.label) === value);
      el.value = o.value;
      el.dispatchEvent(new Event("change", { bubbles: true }));
      return true;
    },
    typing: () => { document.typed = true; return true; },
    sent: (text) => {
      if (!document.typed) return true; // this is the page that came back
      const sent = !!labelled(text)[0].form.dataset.sent;
      document.left = true;
      return sent;
    },
    value: (text) => (labelled(text)[0] || {}).value || "",
    state: () => {
      const h1 = document.querySelector("h1");
      const open = dialog() ? " dialog" : "";
      const wrong = document.querySelector("[role=alert]:not([hidden])") ? "wrong" : "";
      return [location.host, location.pathname, h1 ? flat(h1.innerText) : "", wrong + open, document.documentElement.lang];
    },
    focus: () => {
      const el = document.activeElement;
      if (!el || el === document.body) return { kind: "", name: "" };
      const style = getComputedStyle(el);
      return {
        kind: el.localName, id: el.id, name: el.labels && el.labels.length ? flat(el.labels[0].innerText) : name(el),
        ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
      };
    },
    items: (selector) => [...document.querySelectorAll(selector)].map((el) => flat(el.innerText)),
    attribute: (selector, attribute) => { const el = document.querySelector(selector); return el ? el.getAttribute(attribute) || "" : ""; },
    leave: () => { document.left = true; return true; },
    noticePrint: () => { window.print = () => { document.printed = (document.printed || 0) + 1; }; return true; },
    timesPrinted: () => document.printed || 0,
    tall: () => (document.documentElement ? document.documentElement.scrollHeight : 0),
    wide: () => { // a page that loads itself anew has none for a moment
      const page = document.documentElement;
      return page ? page.scrollWidth - page.clientWidth : 0;
    },
  };
})()
