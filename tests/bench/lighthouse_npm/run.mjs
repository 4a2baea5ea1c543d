// Lighthouse on each address of a JSON job on stdin: {chromium, cookie, pages: {name: url}, forms: ["mobile", "desktop"]}.
// Writes a line of JSON for each: the scores, the figures behind performance, and what cost points.
import { readFileSync } from "node:fs";
import lighthouse, { desktopConfig } from "lighthouse";
import puppeteer from "puppeteer-core";

const job = JSON.parse(readFileSync(0, "utf8"));
const FIGURES = [
  "first-contentful-paint", "largest-contentful-paint", "speed-index", "total-blocking-time", "cumulative-layout-shift",
];

for (const form of job.forms) {
  for (const [name, url] of Object.entries(job.pages)) {
    const browser = await puppeteer.launch({ executablePath: job.chromium, args: job.args });
    await browser.setCookie({ ...job.cookie, domain: new URL(url).hostname, path: "/", httpOnly: true });
    const port = new URL(browser.wsEndpoint()).port;
    const flags = {
      port, disableStorageReset: true, logLevel: "error",
      onlyCategories: ["performance", "accessibility", "best-practices"],
    };
    const { lhr } = await lighthouse(url, flags, form === "desktop" ? desktopConfig : undefined);
    await browser.close();
    const lost = Object.values(lhr.categories).flatMap((category) => category.auditRefs)
      .filter((ref) => ref.weight > 0 && lhr.audits[ref.id].score !== null && lhr.audits[ref.id].score < 1)
      .map((ref) => `${ref.id} ${lhr.audits[ref.id].displayValue ?? ""}`.trim());
    console.log(JSON.stringify({
      form, name, address: lhr.finalDisplayedUrl, version: lhr.lighthouseVersion,
      scores: Object.fromEntries(Object.entries(lhr.categories).map(([id, category]) => [id, Math.round(category.score * 100)])),
      figures: Object.fromEntries(FIGURES.map((id) => [id, lhr.audits[id].displayValue])),
      lost: [...new Set(lost)],
    }));
  }
}
