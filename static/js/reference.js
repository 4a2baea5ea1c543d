// The reading view of the API: Redoc, in our colours by day and by night.

const place = document.getElementById("reference");
const night = matchMedia("(prefers-color-scheme: dark)");

// Redoc shows its maker's logo from a foreign host, and has no option against that: no picture is made at all.
const create = document.createElement.bind(document);
document.createElement = (name, options) => create(name === "img" ? "span" : name, options);

function theme(dark) {
  const [surface, ink, quiet, line] = dark
    ? ["#191b1e", "#eceef1", "#a6adb7", "#2b2e33"]
    : ["#f5f6f8", "#171a1f", "#565c66", "#e1e4e8"];
  const accent = dark ? place.dataset.dark : place.dataset.light;
  const [good, bad] = dark ? ["#7fd6ac", "#ff9a94"] : ["#0e6b47", "#b3141c"];
  const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
  const mono = 'ui-monospace, "SFMono-Regular", Menlo, Consolas, "Noto Sans Mono", monospace';
  const answer = (color) => ({ color, backgroundColor: surface, tabTextColor: color });
  return {
    colors: {
      primary: { main: accent },
      success: { main: good },
      error: { main: bad },
      text: { primary: ink, secondary: quiet },
      border: { dark: line, light: line },
      gray: { 50: surface, 100: line },
      responses: { success: answer(good), error: answer(bad), redirect: answer(quiet), info: answer(quiet) },
    },
    schema: { linesColor: line, typeNameColor: quiet, typeTitleColor: quiet, requireLabelColor: bad, nestedBackground: surface },
    typography: {
      fontSize: "15px",
      fontFamily: font,
      headings: { fontFamily: font, fontWeight: "650" },
      code: { fontFamily: mono, fontSize: "13px", color: ink, backgroundColor: surface },
      links: { color: accent, visited: accent, hover: accent, textDecoration: "underline", hoverTextDecoration: "underline" },
    },
    sidebar: { backgroundColor: surface, textColor: ink, activeTextColor: accent },
    rightPanel: {
      backgroundColor: "#191b1e",
      textColor: "#eceef1",
      servers: { overlay: { backgroundColor: surface, textColor: ink }, url: { backgroundColor: dark ? "#101113" : "#fff" } },
    },
    codeBlock: { backgroundColor: "#101113" },
    fab: { backgroundColor: surface, color: accent },
  };
}

function show() {
  // Its search would need a worker made of text, which our policy forbids; the browser's own finds everything.
  const options = { disableSearch: true, hideDownloadButtons: true, theme: theme(night.matches) };
  window.Redoc.init(place.dataset.contract, options, place);
}

night.addEventListener("change", show);
show();
