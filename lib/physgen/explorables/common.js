// Shared by every interactive figure: palette, elements, TeX labels, charts, controls, animation, the random stream and the network.
// No import and no export: Python puts this text in front of each module.

// The site defines --pg-1 … --pg-6, --pg-ink, --pg-muted, --pg-grid, --pg-paper for both themes; JupyterLab has only the fallbacks.
const PALETTE = {
  light: { 1: "#0969b3", 2: "#bc4c00", 3: "#1a7f4b", 4: "#8145b5", 5: "#8a6100", 6: "#b02a6f", ink: "#1f2328", muted: "#59636e", grid: "#d8dee4", paper: "#ffffff" },
  dark: { 1: "#58a6ff", 2: "#f0883e", 3: "#4cc38a", 4: "#c297ff", 5: "#e3b341", 6: "#f778ba", ink: "#e6edf3", muted: "#a3adb8", grid: "#3a424c", paper: "#14181e" },
};
const fallbacks = (theme) => Object.entries(PALETTE[theme]).map(([name, value]) => `--x-${name}: var(--pg-${name}, ${value});`).join(" ");
const CSS = `
.pgx { ${fallbacks("light")} color: var(--x-ink); background: var(--x-paper); font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; }
.pgx[data-dark] { ${fallbacks("dark")} }
.pgx *, .pgx { box-sizing: border-box; }
.pgx p { margin: 0.4em 0; }
.pgx-row { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; align-items: flex-start; }
.pgx-row > .pgx-panel { flex: 1 1 17rem; min-width: 0; max-width: 100%; }
.pgx-bar { display: flex; flex-wrap: wrap; gap: 0.4rem 1rem; align-items: center; margin: 0.5rem 0; }
.pgx-control { display: flex; align-items: center; gap: 0.5rem; }
.pgx-control label { display: flex; align-items: center; gap: 0.5rem; margin: 0; }
.pgx input { accent-color: var(--x-1); margin: 0; }
.pgx input[type=range] { width: 9rem; min-height: 24px; }
.pgx output { min-width: 3.2em; font-variant-numeric: tabular-nums; }
.pgx button { font: inherit; color: var(--x-ink); background: var(--x-paper); border: 1px solid var(--x-muted); border-radius: 4px; min-height: 30px; padding: 0.1rem 0.7rem; cursor: pointer; }
.pgx button:hover { border-color: var(--x-1); color: var(--x-1); }
.pgx button.pgx-primary { background: var(--x-1); color: var(--x-paper); border-color: var(--x-1); }
.pgx :focus-visible { outline: 3px solid var(--x-2); outline-offset: 2px; }
.pgx fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.1rem 0.8rem; align-items: center; }
.pgx legend { float: left; padding: 0 0.6rem 0 0; font: inherit; width: auto; margin: 0; }
.pgx-chart { display: block; position: relative; width: 100%; overflow: visible; font: 12.5px system-ui, sans-serif; }
.pgx-chart text { fill: var(--x-ink); }
.pgx-chart .pgx-tick { fill: var(--x-muted); }
.pgx-legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; list-style: none; margin: 0.2rem 0; padding: 0; font-size: 14px; }
.pgx-legend li { display: flex; align-items: center; gap: 0.35rem; margin: 0; }
.pgx-legend svg { width: 30px; height: 14px; flex: none; }
.pgx-status { min-height: 1.5em; }
.pgx dl.pgx-readings { display: flex; flex-wrap: wrap; gap: 0.1rem 1.2rem; margin: 0.3rem 0; font-size: 14px; }
.pgx-readings div { display: flex; gap: 0.4rem; align-items: baseline; }
.pgx dl.pgx-readings dt, .pgx dl.pgx-readings dd { margin: 0; font-weight: 400; }
.pgx-readings dd { min-width: 3em; font-variant-numeric: tabular-nums; }
.pgx-canvas { position: absolute; }
.pgx .pgx-handle { cursor: grab; touch-action: none; outline-offset: 0; }
.pgx-track { position: relative; flex: 1; height: 14px; min-width: 4rem; background: var(--x-grid); border-radius: 2px; }
.pgx-track > i { position: absolute; top: 0; bottom: 0; border-radius: 2px; background: var(--x-1); }
.pgx-number { font-variant-numeric: tabular-nums; min-width: 3.4em; text-align: right; }
.pgx-muted { color: var(--x-muted); }
`;

// ---- elements and themes

const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "tspan"]);

/** Attributes that start with "on" are listeners; null and false leave an attribute out. */
function attributes(node, values) {
  for (const [name, value] of Object.entries(values)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
}

/** An HTML or SVG element. */
function h(tag, values = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  attributes(node, values);
  node.append(...children);
  return node;
}

function isDark() {
  const page = document.documentElement.dataset.theme;
  if (page === "dark" || page === "light") return page === "dark";
  const lab = document.body.dataset.jpThemeLight;
  return lab ? lab === "false" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Call back at each change of theme, by the page, by JupyterLab or by the system. Returns how to stop. */
function onTheme(callback) {
  const observer = new MutationObserver(callback);
  const system = matchMedia("(prefers-color-scheme: dark)");
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  system.addEventListener("change", callback);
  return () => { observer.disconnect(); system.removeEventListener("change", callback); };
}

/** The frame of a figure in `el`: style, theme, name and caption. `redraw` runs when its width or the theme changes. */
function mount(el, model, redraw) {
  const root = h("div");
  // Without this attribute JupyterLab would take the arrow keys for itself.
  const frame = h("div", { class: "pgx", "data-lm-suppress-shortcuts": "true" }, root);
  if (model.get("caption")) frame.append(h("p", {}, ...texHtml(model.get("caption"))));
  if (!el.hasAttribute("aria-label") && model.get("alt")) {
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", model.get("alt"));
  }
  const theme = () => { frame.toggleAttribute("data-dark", isDark()); if (root.isConnected) redraw(); };
  theme();
  el.replaceChildren(h("style", {}, CSS), frame);
  const stopTheme = onTheme(theme);
  let width = 0;
  const size = new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; redraw(); } });
  size.observe(root);
  return { root, dispose: () => { stopTheme(); size.disconnect(); el.replaceChildren(); } };
}

// ---- labels: enough TeX for the axes of a figure

const SYMBOLS = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", varepsilon: "ε", zeta: "ζ", eta: "η", theta: "θ", kappa: "κ", lambda: "λ", mu: "μ", nu: "ν",
  xi: "ξ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ", phi: "φ", varphi: "φ", chi: "χ", psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ", Theta: "Θ", Lambda: "Λ",
  Sigma: "Σ", Phi: "Φ", Psi: "Ψ", Omega: "Ω", ell: "ℓ", partial: "∂", infty: "∞", langle: "⟨", rangle: "⟩", cdot: "·", times: "×", pm: "±", approx: "≈",
  le: "≤", leq: "≤", ge: "≥", geq: "≥", ne: "≠", neq: "≠", to: "→", sim: "∼", sqrt: "√", sum: "Σ", int: "∫", prime: "′", star: "*", quad: " ", ",": " ", ";": " ", "!": "", " ": " ", "|": "‖",
};
const TEX = /\\(?:mathrm|text|rm|operatorname)\s*\{([^}]*)\}|\\([a-zA-Z]+|[^a-zA-Z])|([_^])(\{(?:[^{}]|\{[^}]*\})*\}|\\[a-zA-Z]+(?:\{[^}]*\})?|.)|(.)/gs;

/** "the load $\alpha_c$" as runs of text, each upright or italic, on the line, below (−1) or above it (+1). */
function texRuns(source) {
  return source.split("$").flatMap((part, i) => (i % 2 ? mathRuns(part, 0) : part ? [{ text: part, shift: 0 }] : []));
}

function mathRuns(math, shift) {
  const runs = [];
  for (const [, upright, command, script, argument, plain] of math.matchAll(TEX)) {
    if (upright !== undefined) runs.push({ text: upright, shift });
    else if (command !== undefined) {
      // What is no symbol is the name of a function: \tanh x.
      const symbol = SYMBOLS[command] ?? `${command}\u2009`;
      runs.push({ text: symbol, italic: /^[α-ωℓ]$/.test(symbol), shift });
    } else if (script) runs.push(...mathRuns(argument.replace(/^\{(.*)\}$/s, "$1"), script === "_" ? -1 : 1));
    else if ("=<>+".includes(plain)) runs.push({ text: `\u2009${plain}\u2009`, shift });
    else if (!"{} \n".includes(plain)) runs.push({ text: plain === "-" ? "−" : plain, italic: /[a-zA-Z]/.test(plain), shift });
  }
  return runs;
}

const texPlain = (source) => texRuns(source).map((run) => run.text).join("");

function texHtml(source) {
  return texRuns(source).map(({ text, italic, shift }) => {
    const inner = italic ? h("i", {}, text) : text;
    return shift ? h(shift < 0 ? "sub" : "sup", {}, inner) : inner;
  });
}

function texSvg(source) {
  let level = 0;
  return texRuns(source).map(({ text, italic, shift }) => {
    const dy = (level - shift) * 4;
    level = shift;
    return h("tspan", { "font-style": italic ? "italic" : null, "font-size": shift ? "80%" : null, dy: dy || null }, text);
  });
}

const fixed = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");

// ---- charts: SVG axes in real pixels, so that text keeps its size on a telephone

function ticks(range, wanted) {
  const low = Math.min(...range), high = Math.max(...range);
  const raw = (high - low) / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) values.push(k * step);
  return values.map((value) => ({ value, text: digits > 5 ? value.toExponential(1).replace(/-/g, "−") : fixed(value, digits) }));
}

/**
 * An empty chart in `host`: `layout(spec)` draws its axes anew; what the caller puts into `marks` (clipped) and `top` stays.
 * A range may fall, [3, 0]; y may bring its `ticks`, [{ value, text }]. Charts that stand above each other share an axis if they are given the same margin `left`.
 */
function chart(host, { alt, role = "img" }) {
  const axes = h("g", { "aria-hidden": "true" });
  const marks = h("svg", { overflow: "hidden" });
  const top = h("g");
  const svg = h("svg", { class: "pgx-chart", role, "aria-label": alt }, axes, marks, top);
  host.append(svg);
  const self = { svg, marks, top, box: null, ranges: null, X: null, Y: null };
  self.layout = ({ x, y, height = 260, grid = true, left: margin = 0 }) => {
    const width = Math.max(host.clientWidth, 200);
    const xTicks = ticks(x.range, width / 80);
    const yTicks = y.ticks ?? ticks(y.range, height / 45);
    const left = Math.max(margin, 30 + 7 * Math.max(...yTicks.map((tick) => tick.text.length)));
    const box = (self.box = { left, top: 8, width: width - left - 14, height: height - 54 });
    self.ranges = [x.range, y.range];
    self.X = (value) => box.left + ((value - x.range[0]) / (x.range[1] - x.range[0])) * box.width;
    self.Y = (value) => box.top + (1 - (value - y.range[0]) / (y.range[1] - y.range[0])) * box.height;
    // The clip leaves room for a marker that sits on an axis.
    const clip = { x: box.left - 7, y: box.top - 7, width: box.width + 14, height: box.height + 14 };
    attributes(marks, { ...clip, viewBox: Object.values(clip).join(" ") });
    attributes(svg, { viewBox: `0 0 ${width} ${height}`, height });
    axes.replaceChildren(...axisParts(self, x, y, xTicks, yTicks).slice(grid ? 0 : 1));
  };
  return self;
}

function axisParts({ box, X, Y }, x, y, xTicks, yTicks) {
  const bottom = box.top + box.height;
  const middle = box.top + box.height / 2;
  const down = xTicks.map((tick) => `M${X(tick.value)} ${box.top}V${bottom}`);
  const across = yTicks.map((tick) => `M${box.left} ${Y(tick.value)}h${box.width}`);
  return [
    h("path", { d: [...down, ...across].join(""), stroke: "var(--x-grid)", "stroke-width": 1 }),
    h("path", { d: `M${box.left} ${box.top}V${bottom}h${box.width}`, stroke: "var(--x-muted)", fill: "none" }),
    ...xTicks.map((tick) => h("text", { class: "pgx-tick", x: X(tick.value), y: bottom + 17, "text-anchor": "middle" }, tick.text)),
    ...yTicks.map((tick) => h("text", { class: "pgx-tick", x: box.left - 6, y: Y(tick.value) + 4, "text-anchor": "end" }, tick.text)),
    h("text", { x: box.left + box.width / 2, y: bottom + 38, "text-anchor": "middle", "font-size": 14 }, ...texSvg(x.label)),
    h("text", { x: 13, y: middle, "text-anchor": "middle", "font-size": 14, transform: `rotate(-90 13 ${middle})` }, ...texSvg(y.label)),
  ];
}

/** Path through the points; a value that is not a number (there is no solution there) leaves a gap. */
function pathThrough(xs, ys) {
  let d = "";
  let pen = "M";
  for (let i = 0; i < xs.length; i++) {
    if (Number.isNaN(ys[i])) pen = "M";
    else { d += `${pen}${xs[i].toFixed(2)} ${ys[i].toFixed(2)}`; pen = "L"; }
  }
  return d;
}

// Lines differ by dash and points by shape as well as by colour, for those who see no colours.
const DASHES = [null, "8 4", "2 3", "10 3 2 3", "5 2", "1 2"];
const color = (name) => `var(--x-${name})`;
const stroke = (name, dash, width = 2) => ({ fill: "none", stroke: color(name), "stroke-width": width, "stroke-dasharray": dash, "stroke-linejoin": "round" });

function legend(entries) {
  const item = ({ label, mark }) => h("li", {}, h("svg", { viewBox: "0 0 30 14", "aria-hidden": "true" }, mark), h("span", {}, ...texHtml(label)));
  return h("ul", { class: "pgx-legend" }, ...entries.filter((entry) => entry.label).map(item));
}

/** A canvas behind the chart of `host`, for what would be too many marks: `paint(pen, ink)` in the chart's own coordinates, in colours of the theme. */
function underlay(host, alt) {
  const canvas = h("canvas", { class: "pgx-canvas", role: "img", "aria-label": alt });
  host.style.position = "relative";
  host.prepend(canvas);
  return ({ box }, paint) => {
    const ratio = devicePixelRatio || 1;
    Object.assign(canvas.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.width}px`, height: `${box.height}px` });
    Object.assign(canvas, { width: Math.round(box.width * ratio), height: Math.round(box.height * ratio) });
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, -box.left * ratio, -box.top * ratio);
    const style = getComputedStyle(canvas);
    paint(pen, (name) => style.getPropertyValue(`--x-${name}`).trim());
  };
}

// ---- words and numbers

/** A sentence that is read out when it changes, and only then. */
function spoken() {
  const el = h("p", { class: "pgx-status", role: "status" });
  return { el, say: (text) => { if (el.textContent !== text) el.textContent = text; } };
}

/** Numbers beside their names; `set({ name: text })` writes them. */
function readings(labels) {
  const cells = Object.fromEntries(Object.keys(labels).map((name) => [name, h("dd")]));
  const row = ([name, label]) => h("div", {}, h("dt", {}, ...texHtml(label)), cells[name]);
  const set = (texts) => { for (const [name, text] of Object.entries(texts)) cells[name].textContent = text; };
  return { el: h("dl", { class: "pgx-readings" }, ...Object.entries(labels).map(row)), set };
}

// ---- controls: native ones, each with its label

const button = (label, onclick, primary = false) => h("button", { type: "button", onclick, class: primary ? "pgx-primary" : null }, label);

/** A labelled range with its value beside it; `show` turns the number into the text that is seen and read out. */
function slider({ label, min, max, step, value, show, change }) {
  const input = h("input", { type: "range", min, max, step, value });
  const output = h("output", { "aria-live": "polite" });
  const display = () => { output.textContent = show(Number(input.value)); input.setAttribute("aria-valuetext", output.textContent); };
  input.addEventListener("input", () => { display(); change(Number(input.value)); });
  display();
  const set = (next) => { input.value = next; display(); };
  return { el: h("div", { class: "pgx-control" }, h("label", {}, h("span", {}, ...texHtml(label)), input), output), input, output, set };
}

/** While a pointer that came down on `node` is held: `from(event)` at first, then `to(event)` as it moves. */
function drag(node, from, to = from) {
  let held = false;
  node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    node.setPointerCapture(event.pointerId);
    held = true;
    from(event);
  });
  node.addEventListener("pointermove", (event) => { if (held) to(event); });
  for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { held = false; });
}

/** A diamond on the plane of a chart, dragged or moved by the arrow keys (`steps`: alone and with Shift): `move([x, y])`. It stands `at()`. */
function planeHandle(picture, { name, reach, at, move, steps = [0.05, 0.25] }) {
  const handle = h("g", { class: "pgx-handle", role: "slider", tabindex: 0, "aria-label": `${name}; arrow keys move it`, "aria-valuemin": -reach, "aria-valuemax": reach },
    h("circle", { r: 16, fill: "transparent" }), h("path", { d: "M0 -9L9 0L0 9L-9 0z", fill: color(4), stroke: color("paper"), "stroke-width": 2 }));
  const toPoint = ({ clientX, clientY }) => {
    const { left, top } = picture.svg.getBoundingClientRect(), { box, ranges } = picture;
    const parts = [(clientX - left - box.left) / box.width, 1 - (clientY - top - box.top) / box.height];
    return ranges.map(([from, to], axis) => from + (to - from) * parts[axis]);
  };
  drag(handle, () => handle.focus({ preventScroll: true }), (event) => move(toPoint(event)));
  handle.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const [x, y] = at(), step = steps[event.shiftKey ? 1 : 0];
    move([x + step * dx, y + step * dy]);
  });
  return { handle, toPoint };
}

/** One of several `options`, {name: text or element}, by radio buttons. */
function choice(label, options, value, change) {
  const group = `pgx-${Math.random().toString(36).slice(2)}`;
  const radio = (name) => h("input", { type: "radio", name: group, value: name, checked: name === value, onchange: () => change(name) });
  const inputs = Object.keys(options).map(radio);
  const labels = inputs.map((input) => h("label", { class: "pgx-control" }, input, options[input.value]));
  const set = (name) => { for (const input of inputs) input.checked = input.value === name; };
  return { el: h("fieldset", {}, h("legend", {}, label), ...labels), set };
}

// ---- animation: only while it is on screen; slow steps where the reader asked for reduced motion

const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Calls `tick` each frame (each second under reduced motion) until it returns false; `changed(running)` follows. */
function animation(el, tick, changed = () => {}) {
  let running = false;
  let visible = true;
  let cancel = null;
  const loop = () => { cancel = null; if (tick() === false) stop(); else schedule(); };
  const schedule = () => {
    if (!running || !visible || cancel) return;
    const slow = reducedMotion();
    const id = slow ? setTimeout(loop, 1000) : requestAnimationFrame(loop);
    cancel = () => (slow ? clearTimeout(id) : cancelAnimationFrame(id));
  };
  const halt = () => { if (cancel) cancel(); cancel = null; };
  const start = () => { running = true; changed(true); schedule(); };
  const stop = () => { running = false; halt(); changed(false); };
  const watch = new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; if (visible) schedule(); else halt(); });
  watch.observe(el);
  return { start, stop, toggle: () => (running ? stop() : start()), dispose: () => { running = false; halt(); watch.disconnect(); } };
}

/** Many requests within a frame, one drawing. */
function oncePerFrame(draw) {
  let pending = 0;
  return () => { pending ||= requestAnimationFrame(() => { pending = 0; draw(); }); };
}

// ---- random numbers: Philox4x32-10, word for word the stream of physgen.kernels.philox

const WORD = 2 ** 32;

function multiplyHigh(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const cross0 = a1 * b0, cross1 = a0 * b1;
  const middle = ((a0 * b0) >>> 16) + (cross0 & 0xffff) + (cross1 & 0xffff);
  return (a1 * b1 + (cross0 >>> 16) + (cross1 >>> 16) + (middle >>> 16)) >>> 0;
}

const words = (number) => [number % WORD, Math.floor(number / WORD)];

/** The four words of counter (c0, c1, c2, c3) under the key [low, high]. */
function philox(c0, c1, c2, c3, [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0), low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const high1 = multiplyHigh(0xcd9e8d57, c2), low1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Two standard normal numbers from two words (Box and Muller), as physgen.kernels.philox.normal makes them. */
function normalPair(first, second) {
  const radius = Math.sqrt(-2 * Math.log((first + 0.5) / WORD)), angle = 2 * Math.PI * ((second + 0.5) / WORD);
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

// ---- the network

/** Rows of C⁻¹ξ, C = ξξᵀ/N, by Cholesky; null if the patterns are linearly dependent. */
function dualPatterns(patterns) {
  const N = patterns[0].length;
  const K = patterns.length;
  const L = patterns.map(() => new Float64Array(K));
  for (let a = 0; a < K; a++) {
    for (let b = 0; b <= a; b++) {
      let sum = dot(patterns[a], patterns[b]) / N;
      for (let c = 0; c < b; c++) sum -= L[a][c] * L[b][c];
      if (a === b && sum < 1e-10) return null;
      L[a][b] = a === b ? Math.sqrt(sum) : sum / L[b][b];
    }
  }
  const rows = patterns.map((pattern) => Float64Array.from(pattern));
  for (let i = 0; i < N; i++) {
    for (let a = 0; a < K; a++) { for (let c = 0; c < a; c++) rows[a][i] -= L[a][c] * rows[c][i]; rows[a][i] /= L[a][a]; }
    for (let a = K - 1; a >= 0; a--) { for (let c = a + 1; c < K; c++) rows[a][i] -= L[c][a] * rows[c][i]; rows[a][i] /= L[a][a]; }
  }
  return rows;
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * A network of ±1 spins without self-couplings, updated one site at a time (the law of physgen.kernels.glauber, stream 0).
 * Fields come from the overlaps: N φ_i = Σ_μ ξ̃_i^μ M_μ − D_i s_i with M_μ = ξ^μ·s; ξ̃ = ξ for Hebb, C⁻¹ξ for the projector.
 * For Hebb N φ_i is an integer: a tie is a tie, and then the old spin stays.
 */
class Network {
  constructor(patterns, rule, seed) {
    this.patterns = patterns;
    this.N = patterns[0].length;
    this.key = words(seed);
    this.t = 0;
    this.dual = rule === "projector" ? dualPatterns(patterns) : patterns;
    this.exact = rule !== "projector";
  }

  load(spins) {
    this.s = Int8Array.from(spins);
    this.M = this.patterns.map((pattern) => dot(pattern, this.s));
    const selfTerm = (_, i) => this.patterns.reduce((sum, pattern, mu) => sum + pattern[i] * this.dual[mu][i], 0);
    this.selfTerm = Float64Array.from(this.s, selfTerm);
    this.H = 0; // N × energy, H = −½ Σ s_i φ_i
    for (let i = 0; i < this.N; i++) this.H -= 0.5 * this.s[i] * this.field(i);
  }

  /** N φ_i. */
  field(i) {
    let sum = -this.selfTerm[i] * this.s[i];
    for (let mu = 0; mu < this.M.length; mu++) sum += this.dual[mu][i] * this.M[mu];
    return this.exact || Math.abs(sum) > 1e-9 * this.N ? sum : 0;
  }

  flip(i) {
    this.H += 2 * this.s[i] * this.field(i);
    this.s[i] = -this.s[i];
    for (let mu = 0; mu < this.M.length; mu++) this.M[mu] += 2 * this.s[i] * this.patterns[mu][i];
  }

  /** One update at temperature T: P(s_i = +1) = g = 1/(1 + exp(−2φ_i/T)), certain where g > 1 − 2⁻³³. */
  step(T) {
    const [place, decision] = philox(...words(this.t++), 0, 0, this.key);
    const i = Math.floor((place * this.N) / WORD);
    const field = this.field(i);
    const g = 1 / (1 + Math.exp((-2 * field) / this.N / T));
    const up = T > 0 ? g > 1 - 2 ** -33 || decision < Math.floor(WORD * g) : field === 0 ? this.s[i] > 0 : field > 0;
    if (up !== this.s[i] > 0) this.flip(i);
  }

  isFixedPoint() { return this.s.every((spin, i) => spin * this.field(i) >= 0); }
  overlap(mu) { return this.M[mu] / this.N; }
  energyPerSpin() { return this.H / this.N / this.N; }
}

// ---- the static page: each figure starts when it comes near the window

function hydrate(modules) {
  const start = (figure) => {
    const stage = figure.querySelector(".physgen-stage");
    const params = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    // The name and the caption stand in the page already.
    const state = { params, alt: stage.getAttribute("aria-label"), caption: "" };
    const set = (name, value) => { state[name] = value; };
    const model = { get: (name) => state[name], set, on() {}, off() {}, save_changes() {} };
    try {
      modules[figure.dataset.module].render({ model, el: stage });
      figure.dataset.ready = "";
    } catch (error) {
      stage.append(h("p", {}, `This figure could not start: ${error.message}`));
      console.error(error);
    }
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); start(entry.target); }
  }, { rootMargin: "400px 0px" });
  for (const figure of document.querySelectorAll("figure.physgen-explorable[data-module]")) {
    if (!(figure.dataset.module in modules) || !figure.querySelector(".physgen-stage")) continue;
    const caption = figure.querySelector("figcaption");
    if (caption?.textContent.includes("$")) caption.replaceChildren(...texHtml(caption.textContent));
    const { top, bottom } = figure.getBoundingClientRect();
    if (top < innerHeight && bottom > 0) start(figure);
    else near.observe(figure);
  }
}
