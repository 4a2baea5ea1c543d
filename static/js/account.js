// What JavaScript adds to the pages; without it everything works too.

// --- Show a password --------------------------------------------------------------------------------------

class PasswordField extends HTMLElement {
  connectedCallback() {
    const input = this.querySelector("input");
    if (!input || this.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "reveal";
    this.append(button);

    const show = (visible) => {
      input.type = visible ? "text" : "password";
      button.textContent = visible ? this.dataset.hide : this.dataset.show;
      button.setAttribute("aria-label", visible ? this.dataset.hideLabel : this.dataset.showLabel);
    };
    show(false);
    input.setAttribute("autocapitalize", "none");
    input.setAttribute("spellcheck", "false"); // a shown password must not travel to a spelling service
    button.addEventListener("click", () => {
      show(input.type === "password");
      input.focus();
    });
    // Browsers offer to save only what was typed into a password field.
    input.form?.addEventListener("submit", () => show(false));
  }
}

// --- See the picture before it is sent --------------------------------------------------------------------

class PictureField extends HTMLElement {
  connectedCallback() {
    const input = this.querySelector('input[type="file"]');
    const face = this.querySelector("[data-avatar]");
    const remove = this.querySelector('input[type="checkbox"]');
    if (!input || !face) return;
    const before = [...face.childNodes];

    input.addEventListener("change", async () => {
      face.replaceChildren(...before);
      const [file] = input.files;
      if (!file) return;
      if (remove) remove.checked = false;
      try {
        const preview = await square(file, 160);
        if (input.files[0] === file) face.replaceChildren(preview);
      } catch {
        // Not a picture that this browser can draw; the server says what is wrong with it.
      }
    });
    remove?.addEventListener("change", () => {
      if (!remove.checked) return;
      input.value = "";
      face.replaceChildren(...before);
    });
  }
}

async function square(file, edge) {
  const picture = await createImageBitmap(file);
  const side = Math.min(picture.width, picture.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = edge;
  const left = (picture.width - side) / 2;
  const top = (picture.height - side) / 2;
  canvas.getContext("2d").drawImage(picture, left, top, side, side, 0, 0, edge, edge);
  picture.close();
  return canvas;
}

// --- Passkeys ---------------------------------------------------------------------------------------------

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
      event.stopPropagation(); // not sent yet
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

for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}

customElements.define("passkey-form", PasskeyForm);
customElements.define("password-field", PasswordField);
customElements.define("picture-field", PictureField);

// --- What is wrong ----------------------------------------------------------------------------------------

const summary = document.querySelector(".error-summary");
if (summary) {
  // The page asks for it with `autofocus`; this is for browsers that know that of inputs only.
  if (!("autofocus" in HTMLElement.prototype)) summary.focus();
  summary.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    const field = link && document.getElementById(link.hash.slice(1));
    if (!field) return;
    event.preventDefault();
    const label = field.closest(".field")?.querySelector(".label") ?? field;
    label.scrollIntoView({ block: "start" });
    field.focus({ preventScroll: true });
  });
}

// --- A press of the button is one press -------------------------------------------------------------------

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  const button = event.submitter ?? form.querySelector("button:not([type='button'])");
  button?.setAttribute("aria-disabled", "true");
});
// Back from the next page, or a download: the form can be sent again.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelectorAll("[aria-disabled]").forEach((button) => button.removeAttribute("aria-disabled"));
  }
});

// --- Times in the reader's own zone -----------------------------------------------------------------------

const format = new Intl.DateTimeFormat(document.documentElement.lang || undefined, { dateStyle: "long", timeStyle: "short" });
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.valueOf())) time.title = format.format(at);
}

// On phones the menu is a strip: bring the present page into view.
document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
