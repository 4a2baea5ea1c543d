// What JavaScript adds; without it everything works too.

class PasswordField extends HTMLElement {
  connectedCallback() {
    const words = this.dataset;
    const input = this.querySelector("input");
    if (!input || this.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "reveal";
    this.append(button);

    const show = (visible) => {
      input.type = visible ? "text" : "password";
      button.textContent = visible ? words.hide : words.show;
      button.ariaLabel = visible ? words.hideLabel : words.showLabel;
    };
    show(false);
    input.autocapitalize = "none";
    input.spellcheck = false; // a shown password must not travel to a spelling service
    button.addEventListener("click", () => {
      show(input.type === "password");
      input.focus();
    });
    // Browsers offer to save only what was typed into a password field.
    input.form?.addEventListener("submit", () => show(false));

    const hint = this.parentElement.querySelector(".strength");
    if (!hint) return;
    const tell = (level = "", words = "") => {
      if (hint.textContent !== words) hint.textContent = words; // else it would be read aloud again
      hint.className = `strength ${level}`;
    };
    let pause;
    input.addEventListener("input", () => {
      clearTimeout(pause);
      const { value, form } = input;
      if (value.length < input.dataset.least) return tell("short", value && hint.dataset.short);
      pause = setTimeout(async () => {
        const told = await ask(hint.dataset.ask, form, value).catch(() => ({}));
        if (input.value === value) tell(told.level, told.words);
      }, 400);
    });
  }
}

// What the rule says of a new password. It knows the words that attackers know, which are too many for a page.
async function ask(path, form, password) {
  const known = [...form.querySelectorAll('[autocomplete="email"], [autocomplete$="name"]')];
  const body = new URLSearchParams([["password", password], ...known.map((one) => ["about", one.value])]);
  body.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
  const answer = await fetch(path, { method: "POST", body });
  return answer.ok ? answer.json() : {};
}

// A press of the button is one press, and shows.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method === "dialog") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  if (form.closest(".footer")) keep();
  const button = event.submitter ?? form.querySelector("button:not([type='button'])");
  if (button) button.ariaDisabled = "true";
});

function release(form) {
  delete form.dataset.sent;
  form.querySelectorAll("[aria-disabled]").forEach((button) => (button.ariaDisabled = null));
  form.querySelectorAll("progress").forEach((bar) => (bar.hidden = true));
}
// Back from the next page, or after a download.
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(release));

// A code is sent with its last digit, typed or pasted ("4829 1375", "٤٨٢٩١٣٧٥"), as accounts/lib/typed.py reads it.
document.addEventListener("input", ({ target }) => {
  const { digits, tried } = target.dataset;
  const code = target.value.normalize("NFKC").replace(/[^\p{Lu}\p{Ll}\p{Lo}\p{Nd}]/gu, "");
  if (!digits || code === tried || !new RegExp(`^\\p{Nd}{${digits}}$`, "u").test(code)) return;
  target.dataset.tried = code;
  target.form.requestSubmit();
});

// The page in another language keeps what was typed, but no password and no code.
const NOT_KEPT = "[type=hidden], [type=file], [autocomplete$=password], [autocomplete$=code], [autocomplete=off]";
const typed = () => [...document.querySelectorAll(`main :is(input:not(${NOT_KEPT}), select:not([name=language]))`)];

function keep() {
  const values = typed().map(({ value, checked }) => ({ value, checked }));
  sessionStorage.typed = JSON.stringify([location.pathname, values]);
}

function restore() {
  const [path, values] = JSON.parse(sessionStorage.typed ?? "[]");
  sessionStorage.removeItem("typed");
  if (path === location.pathname) typed().forEach((field, at) => Object.assign(field, values[at]));
}

function arrive() {
  for (const field of document.querySelectorAll("[data-own-zone]")) {
    field.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (field.selectedIndex < 0) field.value = "";
  }
  document.querySelector(".error-summary")?.focus();
  // What few pages need is fetched by them.
  for (const { dataset } of document.querySelectorAll("[data-module]")) import(dataset.module);
  // On phones the menu is a strip.
  document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

class PasskeyForm extends HTMLElement {
  async connectedCallback() {
    const able = window.PublicKeyCredential;
    if (!able?.parseRequestOptionsFromJSON) {
      this.parentElement.querySelector(".unable")?.removeAttribute("hidden");
      return;
    }
    this.hidden = false;
    this.form = this.querySelector("form");
    this.form.addEventListener("submit", (event) => {
      if (this.form.elements.credential.value) return;
      event.preventDefault();
      event.stopPropagation();
      this.ask();
    });
    // The browser offers a passkey where the username is typed.
    if ("autofill" in this.dataset && (await able.isConditionalMediationAvailable?.())) this.ask("conditional");
  }

  async ask(mediation) {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const { ceremony, options, failed, known } = this.dataset;
    const json = JSON.parse(options);
    try {
      const credential =
        ceremony === "create"
          ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(json), signal })
          : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(json), mediation, signal });
      this.form.elements.credential.value = JSON.stringify(credential);
      this.form.requestSubmit();
    } catch (error) {
      if (mediation || error.name === "AbortError") return;
      this.querySelector("[role=status]").textContent = error.name === "InvalidStateError" ? known : failed;
    }
  }
}

for (const button of document.querySelectorAll("[data-print], [data-copy]")) {
  const { copy, done } = button.dataset;
  button.hidden = copy && !navigator.clipboard;
  button.addEventListener("click", async () => {
    if (!copy) return print();
    await navigator.clipboard.writeText(copy);
    button.textContent = done;
  });
}

// What the worker is at is asked for until it is done: for ten minutes, while it is looked at.
for (const part of document.querySelectorAll("[data-waits]")) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch("").catch(() => null);
    const now = new DOMParser().parseFromString(await answer?.text(), "text/html").getElementById(part.id);
    if (!now || now.matches("[data-waits]")) return;
    clearInterval(timer);
    part.replaceChildren(...now.childNodes);
    document.querySelector(".notices")?.remove(); // it said that this would come
  }, 3000);
  setTimeout(() => clearInterval(timer), 600_000);
}

customElements.define("passkey-form", PasskeyForm);
customElements.define("password-field", PasswordField);
document.addEventListener("arrive", arrive);
arrive();
restore(); // last, because a browser may refuse the storage
