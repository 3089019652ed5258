// The phases of the Hopfield model at load α and temperature T: move the point, read off what the replica-symmetric equations say
//   m = ∫Dz tanh B,  q = ∫Dz tanh² B,  B = β(m + √(αr) z),  r = q/(1 − β(1 − q))²
// and watch a small network that starts in a stored pattern at that very point. Random words: stream 0 moves the network; pattern μ
// takes the bits, low first, of the words of the counters (j, 0, μ, 2³¹ + 1), j = 0, 1, …

const DEFAULTS = { alpha: 0.05, temperature: 0.3, alpha_max: 0.16, t_max: 1.5, n_spins: 400, sweeps: 120, seed: 1 };
const T_MIN = 0.02;
const LINES = {
  spin_glass: { label: "$T_g$: spin glass appears", color: 2 },
  spinodal: { label: "$T_M$: retrieval appears", color: 1 },
  first_order: { label: "$T_c$: retrieval wins", color: 3 },
  mixture: { label: "mixtures appear", color: 4 },
  almeida_thouless: { label: "replica symmetry breaks", color: 6 },
};
const PHASES = {
  paramagnet: "Nothing is frozen: noise wins over every pattern.",
  "spin glass": "Spins freeze, but in states that have nothing to do with the patterns.",
  "retrieval (metastable)": "Patterns are attractors, yet the spin glass lies lower in free energy.",
  retrieval: "Patterns are attractors and the deepest states.",
};
const PHASE_CSS = `
.pgx-plane { touch-action: none; cursor: crosshair; }
.pgx .pgx-handle { cursor: grab; outline-offset: 0; }
.pgx-map { width: 7rem; height: 7rem; image-rendering: pixelated; border: 1px solid var(--x-muted); }
.pgx-measures { display: grid; grid-template-columns: auto 1fr auto; gap: 0.2rem 0.6rem; align-items: center; flex: 1 1 12rem; }
.pgx-phase { font-size: 1.15em; font-weight: 600; }
`;

// ---- the equations

/** Trapezoid nodes of the Gaussian measure. Beside a tanh as steep as `slope` the rule errs by about exp(−π²/(slope·step)). */
function gaussian(slope) {
  const step = Math.min(0.1, 0.6 / slope);
  const half = Math.ceil(6.5 / step);
  const z = Float64Array.from({ length: 2 * half + 1 }, (_, k) => (k - half) * step);
  return { z, weight: z.map((v) => (step * Math.exp(-0.5 * v * v)) / Math.sqrt(2 * Math.PI)) };
}

function average({ z, weight }, f) {
  let sum = 0;
  for (let k = 0; k < z.length; k++) sum += weight[k] * f(z[k]);
  return sum;
}

const noise = (q, beta) => q / (1 - beta * (1 - q)) ** 2;

/** One round of the equations, (m, q) → (m, q). */
function iterate(nodes, alpha, beta, { m, q }) {
  const width = Math.sqrt(alpha * noise(q, beta));
  let m1 = 0, q1 = 0;
  for (let k = 0; k < nodes.z.length; k++) {
    const t = Math.tanh(beta * (m + width * nodes.z[k]));
    m1 += nodes.weight[k] * t;
    q1 += nodes.weight[k] * t * t;
  }
  return { m: m1, q: q1 };
}

/** The branch that starts at m = 1, or null where it has died. */
function retrieval(alpha, T) {
  let state = { m: 1, q: 1 };
  const nodes = gaussian(Math.max(1, 1.5 * Math.sqrt(alpha)) / T);
  for (let round = 0; round < 4000; round++) {
    const next = iterate(nodes, alpha, 1 / T, state);
    const moved = Math.abs(next.m - state.m) + Math.abs(next.q - state.q);
    state = next;
    // 1 − β(1 − q) ≤ 0 is beyond the branch: there the replica-symmetric noise diverges.
    if (!(state.m > 0.02) || T <= 1 - state.q) return null;
    if (moved < 1e-9) break;
  }
  return state;
}

/** The branch m = 0: q by bisection, because plain iteration oscillates. */
function spinGlass(alpha, T) {
  if (T >= 1 + Math.sqrt(alpha) || alpha === 0) return { m: 0, q: 0 };
  let low = Math.max(0, 1 - T), high = 1;
  const nodes = gaussian((2 * Math.sqrt(alpha) + 1) / T);
  for (let k = 0; k < 45; k++) {
    const q = (low + high) / 2;
    if (iterate(nodes, alpha, 1 / T, { m: 0, q }).q > q) low = q;
    else high = q;
  }
  return { m: 0, q: (low + high) / 2 };
}

function freeEnergy(alpha, T, { m, q }) {
  const C = (1 - q) / T, r = noise(q, 1 / T);
  // At zero load there is no crosstalk, and r need not exist.
  const crosstalk = alpha && (alpha / 2) * (1 + T * Math.log(1 - C) - q / (1 - C) + r * C);
  const width = alpha && Math.sqrt(alpha * r);
  const entropy = average(gaussian((1 + width) / T), (z) => {
    const B = Math.abs((m + width * z) / T);
    return B + Math.log1p(Math.exp(-2 * B));
  });
  return (m * m) / 2 + crosstalk - T * entropy;
}

function solve(alpha, T) {
  const glass = spinGlass(alpha, T);
  const pattern = retrieval(alpha, T);
  if (!pattern) return { phase: glass.q > 0 ? "spin glass" : "paramagnet", ...glass };
  const wins = freeEnergy(alpha, T, pattern) <= freeEnergy(alpha, T, glass);
  return { phase: wins ? "retrieval" : "retrieval (metastable)", ...pattern };
}

// ---- the network

function randomPatterns(count, N, seed) {
  return Array.from({ length: count }, (_, mu) => {
    const draws = Array.from({ length: Math.ceil(N / 128) }, (_, j) => philox(j, 0, mu, 2 ** 31 + 1, words(seed))).flat();
    return Int8Array.from({ length: N }, (_, i) => ((draws[i >> 5] >>> (i & 31)) & 1 ? 1 : -1));
  });
}

function liveNetwork({ n_spins: N, alpha_max: most, seed, sweeps }) {
  const patterns = randomPatterns(Math.max(1, Math.round(most * N)), N, seed);
  const live = { network: null, trace: [] };
  let T = 0;
  live.start = (alpha, temperature) => {
    T = temperature;
    live.network = new Network(patterns.slice(0, Math.max(1, Math.round(alpha * N))), "hebb", seed);
    live.network.load(patterns[0]);
    live.trace = [1];
  };
  /** Another noise: the stream goes on where the last run ended. */
  live.again = () => { live.network.load(patterns[0]); live.trace = [1]; };
  live.sweep = (count) => {
    for (let k = 0; k < count && live.trace.length <= sweeps; k++) {
      for (let i = 0; i < N; i++) live.network.step(T);
      live.trace.push(live.network.overlap(0));
    }
    return live.trace.length <= sweeps;
  };
  /** Mean over the later half of the run, when the start is forgotten. */
  live.mean = () => {
    const late = live.trace.slice(Math.floor(live.trace.length / 2));
    return late.reduce((sum, m) => sum + m, 0) / late.length;
  };
  live.agreement = () => live.network.s.map((spin, i) => spin * patterns[0][i]);
  return live;
}

// ---- what is seen

/** The plane with its lines and the point, which is dragged or moved by the arrow keys. */
function planeView(host, params, move) {
  const picture = chart(host, { alt: "plane of load α and temperature T", role: "group" });
  const surface = h("rect", { class: "pgx-plane", fill: "transparent" });
  const regions = h("g", { "aria-hidden": "true" });
  const handle = h("g", { class: "pgx-handle pgx-plane", role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": params.t_max },
    h("circle", { r: 16, fill: "transparent" }), h("circle", { r: 8, fill: color("ink"), stroke: color("paper"), "stroke-width": 2.5 }));
  handle.setAttribute("aria-label", "point in the plane; arrow keys move it");
  picture.top.append(regions, surface, handle);
  const toPoint = (event) => {
    const { left, top } = picture.svg.getBoundingClientRect();
    const { box } = picture;
    const x = (event.clientX - left - box.left) / box.width, y = 1 - (event.clientY - top - box.top) / box.height;
    return [x * params.alpha_max, y * params.t_max];
  };
  const follow = (event) => move(...toPoint(event));
  drag(picture.top, (event) => { handle.focus({ preventScroll: true }); follow(event); }, follow);
  handle.addEventListener("keydown", (event) => {
    const [da, dT] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (!da && !dT) return;
    event.preventDefault();
    const size = event.shiftKey ? 10 : 1;
    move(params.alpha + 0.001 * da * size, params.temperature + 0.01 * dT * size);
  });
  const layout = () => {
    const x = { range: [0, params.alpha_max], label: "load $\\alpha = K/N$" }, y = { range: [0, params.t_max], label: "temperature $T$" };
    picture.layout({ x, y, height: 360 });
    drawLines(picture, regions, params.lines);
    const { left, top, width, height } = picture.box;
    attributes(surface, { x: left, y: top, width, height });
  };
  const update = ({ phase }) => {
    handle.setAttribute("transform", `translate(${picture.X(params.alpha)} ${picture.Y(params.temperature)})`);
    handle.setAttribute("aria-valuenow", params.temperature);
    handle.setAttribute("aria-valuetext", `α = ${fixed(params.alpha, 3)}, T = ${fixed(params.temperature)}: ${phase}`);
  };
  return { layout, update };
}

const lineStyle = (name) => stroke(LINES[name].color, DASHES[Object.keys(LINES).indexOf(name)]);

function drawLines({ marks, X, Y, box }, regions, lines) {
  const path = ({ alpha, temperature }) => pathThrough(alpha.map(X), temperature.map(Y));
  const under = lines.spinodal ? `${path(lines.spinodal)}V${box.top + box.height}H${box.left}z` : "";
  const drawn = Object.keys(lines).map((name) => h("path", { d: path(lines[name]), ...lineStyle(name) }));
  marks.replaceChildren(h("path", { d: under, fill: color(1), "fill-opacity": 0.1 }), ...drawn);
  const names = [["paramagnet", 0.42, 0.92], ["spin glass", 0.66, 0.55], ["retrieval", 0.23, 0.1], ["metastable", 0.55, 0.1]];
  const place = (x, y) => ({ x: box.left + x * box.width, y: box.top + (1 - y) * box.height, "text-anchor": "middle" });
  regions.replaceChildren(...names.map(([text, x, y]) => h("text", place(x, y), text)));
}

const lineKey = (name) => ({ label: LINES[name].label, mark: h("path", { d: "M1 7h28", ...lineStyle(name) }) });

/** m(t) of the network, and what theory says as a line. */
function traceView(host, sweeps) {
  const picture = chart(host, { alt: "overlap of the network with its pattern against time" });
  const x = { range: [0, sweeps], label: "sweeps $t$" }, y = { range: [-0.2, 1.05], label: "overlap $m$" };
  const layout = () => picture.layout({ x, y, height: 200 });
  const update = ({ m }, { trace }) => picture.marks.replaceChildren(
    h("path", { d: `M${picture.X(0)} ${picture.Y(m)}H${picture.X(sweeps)}`, ...stroke(1) }),
    h("path", { d: pathThrough(trace.map((_, t) => picture.X(t)), trace.map(picture.Y)), ...stroke(2, null, 1.5) }),
  );
  const key = legend([
    { label: "theory", mark: h("path", { d: "M1 7h28", ...stroke(1) }) },
    { label: "network", mark: h("path", { d: "M1 9l5 -4l5 3l5 -4l5 5l8 -3", ...stroke(2, null, 1.5) }) },
  ]);
  return { layout, update, key };
}

function measure(label, name) {
  const bar = h("i", { style: `left: 0; background: ${color(name)}` });
  const number = h("span", { class: "pgx-number" });
  const set = (value) => { bar.style.width = `${100 * Math.max(value, 0)}%`; number.textContent = fixed(value, 3); };
  return { parts: [h("span", {}, ...texHtml(label)), h("span", { class: "pgx-track", "aria-hidden": "true" }, bar), number], set };
}

/** Which spins agree with the pattern, as a picture of N cells. */
function agreementView(N) {
  const side = Math.ceil(Math.sqrt(N));
  const canvas = h("canvas", { class: "pgx-map", width: side, height: side, role: "img" });
  canvas.setAttribute("aria-label", "map of the spins: inked where a spin agrees with the pattern");
  const pen = canvas.getContext("2d");
  const update = (agreement) => {
    const style = getComputedStyle(canvas);
    const [yes, no] = ["ink", "paper"].map((name) => style.getPropertyValue(`--x-${name}`).trim());
    agreement.forEach((value, i) => { pen.fillStyle = value > 0 ? yes : no; pen.fillRect(i % side, Math.floor(i / side), 1, 1); });
  };
  return { el: canvas, update };
}

function panelView(params) {
  const phase = h("div", { class: "pgx-phase" });
  const story = h("p", {});
  const measures = { m: measure("theory $m$", 1), q: measure("theory $q$", 3), live: measure("network $m$", 2) };
  const map = agreementView(params.n_spins);
  const traceHost = h("div");
  const trace = traceView(traceHost, params.sweeps);
  const table = h("div", { class: "pgx-measures" }, ...Object.values(measures).flatMap((row) => row.parts));
  const head = h("div", { role: "status" }, phase, story);
  const el = h("div", { class: "pgx-panel" }, head, h("div", { class: "pgx-row" }, table, map.el), traceHost, trace.key);
  const showTheory = (theory) => {
    // Written only when it changes, for it is read out.
    if (phase.textContent !== theory.phase) { phase.textContent = theory.phase; story.textContent = PHASES[theory.phase]; }
    measures.m.set(theory.m);
    measures.q.set(theory.q);
  };
  const showNetwork = (theory, live) => { measures.live.set(live.mean()); map.update(live.agreement()); trace.update(theory, live); };
  return { el, layout: trace.layout, showTheory, showNetwork };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  const params = { ...given };
  const live = liveNetwork(params);
  let theory = null;
  const { root, dispose } = mount(el, model, () => layout());
  const planeHost = h("div", { class: "pgx-panel" });
  const plane = planeView(planeHost, params, (alpha, T) => move(alpha, T));
  const panel = panelView(params);
  const drawNetwork = () => {
    panel.showNetwork(theory, live);
    Object.assign(root.dataset, { liveM: live.mean(), sweeps: live.trace.length - 1 });
  };
  const run = animation(root, () => {
    const more = live.sweep(reducedMotion() ? params.sweeps : 3);
    drawNetwork();
    return more;
  });

  function draw() {
    theory = solve(params.alpha, params.temperature);
    plane.update(theory);
    panel.showTheory(theory);
    alpha.set(params.alpha);
    temperature.set(params.temperature);
    Object.assign(root.dataset, { alpha: params.alpha, temperature: params.temperature, ...theory });
    live.start(params.alpha, params.temperature);
    // The reader who asked for no motion sees the whole run at once.
    if (reducedMotion()) live.sweep(params.sweeps);
    drawNetwork();
    run.start();
  }
  const later = oncePerFrame(draw);
  const snap = (value, step, low, high) => Number((step * Math.round(Math.min(Math.max(value, low), high) / step)).toFixed(4));
  function move(a, T) {
    const next = { alpha: snap(a, 0.001, 0, params.alpha_max), temperature: snap(T, 0.01, T_MIN, params.t_max) };
    if (next.alpha === params.alpha && next.temperature === params.temperature) return;
    Object.assign(params, next);
    later();
  }
  const alpha = slider({
    label: "load $\\alpha$", min: 0, max: params.alpha_max, step: 0.001, value: params.alpha,
    show: (a) => fixed(a, 3), change: (a) => move(a, params.temperature),
  });
  const temperature = slider({
    label: "temperature $T$", min: T_MIN, max: params.t_max, step: 0.01, value: params.temperature,
    show: (T) => fixed(T), change: (T) => move(params.alpha, T),
  });
  const again = button("Run again", () => { live.again(); run.start(); }, true);
  const reset = button("Reset", () => { Object.assign(params, given); draw(); live.sweep(params.sweeps); drawNetwork(); });
  const layout = () => { plane.layout(); panel.layout(); if (theory) { plane.update(theory); drawNetwork(); } };

  planeHost.append(legend(Object.keys(params.lines).map(lineKey)), h("div", { class: "pgx-bar" }, alpha.el, temperature.el, again, reset));
  root.append(h("style", {}, PHASE_CSS), h("div", { class: "pgx-row" }, planeHost, panel.el));
  layout();
  draw();
  // The first thing to be seen is a finished run.
  live.sweep(params.sweeps);
  drawNetwork();
  return () => { run.dispose(); dispose(); };
}

export default { render };
