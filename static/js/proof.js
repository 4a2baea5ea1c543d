// Solves the challenge of a page and sends its form (services/security/proofs.py). The page runs this as a module, which
// runs it once more as a worker. By hand, because crypto.subtle takes a promise for each hash: twenty times as long.

if (self.document) {
  const form = document.querySelector("form[data-target]");
  const bar = form.querySelector("progress");
  const words = form.querySelector("[role=status]");
  const say = (what) => (words.textContent = words.dataset[what]);
  const { module, prefix, target, max } = form.dataset;
  const worker = new Worker(module);
  worker.onmessage = ({ data: { part, proof } }) => {
    if (part) return (bar.value = part);
    say(proof ? "done" : "failed");
    if (!proof) return;
    form.elements.proof.value = proof;
    form.requestSubmit();
  };
  worker.onerror = () => say("failed");
  worker.postMessage({ prefix, target, max: Number(max) });
  bar.hidden = false;
  say("busy");
} else {
  onmessage = ({ data }) => postMessage({ proof: solve(data) });
}

function solve({ prefix, target, max }) {
  const wanted = target.match(/.{8}/g).map((word, i) => (parseInt(word, 16) - FIRST[i]) | 0);
  const head = new Int32Array(16);
  const put = (words, text, at) => {
    for (let i = 0; i < text.length; i++) words[(at + i) >> 2] |= text.charCodeAt(i) << (24 - ((at + i) & 3) * 8);
  };
  put(head, prefix, 0);
  const words = new Int32Array(64);
  for (let number = 0; number <= max; number++) {
    if (number % 5000 === 1) postMessage({ part: number / max });
    const text = `${number}\x80`;
    words.set(head);
    put(words, text, prefix.length);
    words[15] = 8 * (prefix.length + text.length - 1);
    const hash = sha256(words);
    if (wanted.every((word, i) => word === hash[i])) return prefix + number;
  }
}

// FIPS 180-4, for a text of up to 55 bytes in one block of 16 words.
const [FIRST, ROUNDS] = constants();

function constants() {
  const part = (root) => (root - Math.floor(root)) * 2 ** 32;
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  return [Uint32Array.from(primes.slice(0, 8), (n) => part(Math.sqrt(n))), Int32Array.from(primes, (n) => part(Math.cbrt(n)))];
}

function sha256(w) {
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15];
    const y = w[i - 2];
    const one = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const two = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = (w[i - 16] + one + w[i - 7] + two) | 0;
  }
  let [a, b, c, d, e, f, g, h] = FIRST;
  for (let i = 0; i < 64; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  return [a, b, c, d, e, f, g, h];
}
