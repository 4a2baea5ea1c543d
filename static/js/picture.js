// A picture: chosen, cropped and sent with its form. Beside account.js, on the pages that have one.

class PictureField extends HTMLElement {
  connectedCallback() {
    this.input = this.querySelector('[type="file"]');
    this.face = this.querySelector("[data-avatar]");
    this.remover = this.querySelector('[type="checkbox"]');
    // The input lies unseen on a button in the page's language.
    const button = this.querySelector("div.file");
    button.hidden = false;
    this.input.replaceWith(button);
    button.append(this.input);
    this.none = { nodes: [...this.face.childNodes] };
    this.choice = this.none;
    const choose = (file) => (this.chosen = this.choose(file));
    this.input.addEventListener("change", () => choose(this.input.files[0]));
    this.remover?.addEventListener("change", () => this.remover.checked && this.take(this.none));
    for (const kind of ["dragover", "dragleave", "drop"]) {
      this.addEventListener(kind, (event) => {
        event.preventDefault();
        this.classList.toggle("over", kind === "dragover");
        if (kind === "drop") choose(event.dataTransfer.files[0]);
      });
    }
  }

  // The plain form carries it from now on.
  take(choice) {
    const files = new DataTransfer();
    if (choice.file) files.items.add(choice.file);
    this.input.files = files.files;
    this.querySelector("bdi").textContent = choice.file?.name ?? "";
    this.face.replaceChildren(...choice.nodes);
    if (choice.file && this.remover) this.remover.checked = false;
    this.choice = choice;
  }

  async choose(file) {
    if (!file) return this.take(this.none);
    const picture = await createImageBitmap(file).catch(() => null);
    // The server says what is wrong with it.
    if (!picture) return this.take({ file, nodes: this.none.nodes });
    const canvas = await crop(picture);
    this.input.focus();
    if (!canvas) return this.take(this.choice);
    this.face.replaceChildren(canvas);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    const name = file.name.replace(/\.\w+$/, "") + ".jpg";
    this.take({ file: new File([blob], name, { type: blob.type }), nodes: [canvas] });
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// The square that was cut out, or null.
function crop(picture) {
  const dialog = document.querySelector(".crop");
  const view = dialog.querySelector("canvas");
  const slider = dialog.querySelector("input");
  const shorter = Math.min(picture.width, picture.height);
  let side = shorter;
  let x = picture.width / 2;
  let y = picture.height / 2;

  const draw = (canvas, edge) => {
    canvas.width = canvas.height = edge;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff"; // behind what is transparent
    context.fillRect(0, 0, edge, edge);
    context.drawImage(picture, x - side / 2, y - side / 2, side, side, 0, 0, edge, edge);
    return canvas;
  };
  const within = (at, least, most) => Math.min(Math.max(at, least), most);
  // By parts of the square.
  const move = (right, down) => {
    x = within(x - right * side, side / 2, picture.width - side / 2);
    y = within(y - down * side, side / 2, picture.height - side / 2);
    draw(view, 640);
  };
  const zoom = (length) => {
    side = within(length, shorter / 4, shorter);
    slider.value = (100 * shorter) / side;
    move(0, 0);
  };

  const fingers = new Map();
  const spread = () => {
    const [one, other] = fingers.values();
    return other && Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  };
  view.onpointerdown = (event) => {
    fingers.set(event.pointerId, event);
    view.setPointerCapture(event.pointerId);
  };
  view.onpointermove = (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const wide = spread();
    fingers.set(event.pointerId, event);
    const whole = view.clientWidth * fingers.size;
    move((event.clientX - before.clientX) / whole, (event.clientY - before.clientY) / whole);
    if (wide) zoom((side * wide) / spread());
  };
  view.onpointerup = view.onpointercancel = (event) => fingers.delete(event.pointerId);
  view.onwheel = (event) => {
    event.preventDefault();
    zoom(side * Math.exp(event.deltaY / 400));
  };
  view.onkeydown = (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    move(arrow[0] / 20, arrow[1] / 20);
  };
  slider.oninput = () => zoom((100 * shorter) / slider.value);

  dialog.returnValue = "";
  dialog.showModal();
  zoom(shorter);
  return new Promise((done) => {
    dialog.onclose = () => {
      done(dialog.returnValue ? draw(document.createElement("canvas"), Math.min(side, 1024)) : null);
    };
  });
}

// After account.js, which stops a second press.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.querySelector("picture-field")?.input.files.length) return;
  event.preventDefault();
  deliver(form);
});

// A line that breaks costs nothing.
async function deliver(form) {
  const bar = form.querySelector("progress");
  const words = bar.nextElementSibling;
  const say = (what) => {
    words.textContent = words.dataset[what];
    words.className = what;
  };
  bar.hidden = false;
  say("sending");
  await form.querySelector("picture-field").chosen;
  try {
    const answer = await send(form, (part) => (part < 1 ? (bar.value = part) : bar.removeAttribute("value")));
    const next = answer.getResponseHeader("Location");
    if (next) location.assign(next);
    else show(answer.responseText, form.querySelector("picture-field").choice);
  } catch {
    dispatchEvent(new Event("pageshow")); // as if back from the next page
    say("failed");
  }
}

// The picture goes straight to the storage where the page says how, else within the form.
async function send(form, progress) {
  const body = new FormData(form);
  const { uploads } = form.dataset;
  if (uploads) {
    // What is wrong with it, the form says.
    const done = await upload(uploads, body, progress).catch(() => false);
    if (done) body.delete("picture");
  }
  return post(form.action, body, progress, "self"); // a redirect comes as a header, see PageMiddleware
}

async function upload(path, form, progress) {
  const picture = form.get("picture");
  const token = ["csrfmiddlewaretoken", form.get("csrfmiddlewaretoken")];
  const ask = async (...how) => (await fetch(...how)).json();
  const tell = (where, ...more) => ask(where, { method: "POST", body: new URLSearchParams([token, ...more]) });
  const place = await tell(path, ["content_type", picture.type], ["size", picture.size]);
  const body = new FormData();
  Object.entries(place.fields).forEach((field) => body.append(...field));
  body.append("file", picture);
  await post(place.url, body, progress);
  let found = await tell(place.complete);
  for (let tries = 60; tries-- && found.state === "queued"; found = await ask(place.state)) {
    await new Promise((done) => setTimeout(done, 400));
  }
  return found.state === "done";
}

function post(path, body, progress, follow) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    if (follow) request.setRequestHeader("X-Follow", follow);
    request.timeout = 120_000;
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onload = () => done(request);
    request.onerror = request.ontimeout = fail;
    request.send(body);
  });
}

// A page with a problem; the picture stays chosen, unless it is the problem.
function show(html, choice) {
  const page = new DOMParser().parseFromString(html, "text/html");
  document.title = page.title;
  document.body.replaceWith(page.body);
  const field = document.querySelector("picture-field");
  if (field && !field.querySelector(".wrong")) {
    field.take(choice);
    field.querySelector(".again")?.remove();
  }
  document.dispatchEvent(new Event("arrive"));
}

customElements.define("picture-field", PictureField);
