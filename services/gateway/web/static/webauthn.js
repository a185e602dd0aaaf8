// The browser's part of security keys. A form with data-webauthn="create|get" holds the options (JSON, in data-options) and a field "credential"; its button
// runs the ceremony and the form carries what the key said. Where the browser has no security keys, what has data-no-webauthn is shown.
"use strict";
(() => {
  const bytes = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (b) => btoa(String.fromCharCode(...new Uint8Array(b))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const listed = (l) => (l || []).map((d) => ({ ...d, id: bytes(d.id) }));

  const create = async (options) => {
    const o = options.publicKey || options;
    const key = { ...o, challenge: bytes(o.challenge), user: { ...o.user, id: bytes(o.user.id) }, excludeCredentials: listed(o.excludeCredentials) };
    const c = await navigator.credentials.create({ publicKey: key });
    return {
      id: c.id, rawId: text(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment || undefined,
      clientExtensionResults: c.getClientExtensionResults(),
      response: {
        clientDataJSON: text(c.response.clientDataJSON), attestationObject: text(c.response.attestationObject),
        transports: c.response.getTransports ? c.response.getTransports() : [],
      },
    };
  };
  const get = async (options) => {
    const o = options.publicKey || options;
    const key = { ...o, challenge: bytes(o.challenge), allowCredentials: listed(o.allowCredentials) };
    const c = await navigator.credentials.get({ publicKey: key });
    const r = { clientDataJSON: text(c.response.clientDataJSON), authenticatorData: text(c.response.authenticatorData), signature: text(c.response.signature) };
    if (c.response.userHandle && c.response.userHandle.byteLength) r.userHandle = text(c.response.userHandle);
    return {
      id: c.id, rawId: text(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment || undefined,
      clientExtensionResults: c.getClientExtensionResults(), response: r,
    };
  };

  for (const form of document.querySelectorAll("form[data-webauthn]")) {
    const show = (name) => { for (const el of form.querySelectorAll("[data-state]")) el.hidden = el.dataset.state !== name; };
    const button = form.querySelector("button[type=submit]");
    if (!window.PublicKeyCredential || !navigator.credentials) { show("none"); button.disabled = true; continue; }
    show("ready");
    form.dataset.again = "yes";
    form.addEventListener("submit", async (e) => {
      if (form.elements.credential.value) return;
      e.preventDefault();
      button.disabled = true;
      show("waiting");
      try {
        const options = JSON.parse(form.dataset.options);
        const answer = await (form.dataset.webauthn === "create" ? create(options) : get(options));
        form.elements.credential.value = JSON.stringify(answer);
        form.submit();
      } catch (err) {
        button.disabled = false;
        show(err && err.name === "InvalidStateError" ? "known" : "failed");
        const said = form.querySelector("[data-state]:not([hidden])");
        if (said) said.focus();
      }
    });
  }
})();
