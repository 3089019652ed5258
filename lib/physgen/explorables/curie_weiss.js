// The Curie–Weiss magnet: d spins a_i = ±1 of the energy −M²/(2d) − hM, M = Σ a_i, at the temperature 1/β. Per spin
//   f(m) = −m²/2 − hm − S(m)/β,  S(m) = −Σ_± (1 ± m)/2 log (1 ± m)/2,  stationary where m = tanh β(m + h);
//   P(M) ∝ C(d, (d + M)/2) e^{β(M²/(2d) + hM)} exactly, at every d.
// (In physgen.exact.curie_weiss the field is counted in units of the temperature: what is βh here is `field` per spin there.) The live
// magnet is moved by the heat bath of physgen.kernels.glauber, one spin at a time, stream 0; it starts with all spins up.

const DEFAULTS = { beta: 1.2, field: 0, d: 50, seed: 1 };
const SIZES = [10, 50, 200];
const WINDOW = 400; // sweeps that are seen

// ---- the landscape

const xLogX = (x) => (x > 0 ? x * Math.log(x) : 0);
const freeEnergy = (m, beta, h) => (-m * m) / 2 - h * m + (xLogX((1 + m) / 2) + xLogX((1 - m) / 2)) / beta;

/** All m = tanh β(m + h), ascending: minima and maxima of f in turn. */
function stationary(beta, field) {
  if (beta <= 1 && field === 0) return [0];
  const g = (m) => m - Math.tanh(beta * (m + field));
  const roots = [];
  const grid = Array.from({ length: 4001 }, (_, i) => (i - 2000.5) / 2000);
  for (let i = 1; i <= 4001; i++) {
    let low = grid[i - 1], high = i < 4001 ? grid[i] : 1;
    const sign = Math.sign(g(low));
    if (sign === Math.sign(g(high))) continue;
    for (let k = 0; k < 60; k++) { const middle = (low + high) / 2; if (Math.sign(g(middle)) === sign) low = middle; else high = middle; }
    roots.push((low + high) / 2);
  }
  return roots.map((m) => (field === 0 && Math.abs(m) < 1e-9 ? 0 : m));
}

/** Minima of f, the deepest first (of two equal ones the positive), and the height of the barrier above the shallowest, or 0. */
function landscape(beta, field) {
  const f = (m) => freeEnergy(m, beta, field), roots = stationary(beta, field);
  const minima = roots.filter((_, i) => i % 2 === 0).sort((a, b) => (Math.abs(f(a) - f(b)) < 1e-13 ? b - a : f(a) - f(b)));
  return { f, minima, barrier: minima.length > 1 ? f(roots[1]) - f(minima[1]) : 0 };
}

/** P(M), M = −d, −d + 2, …, d. */
function sectors(d, beta, field) {
  const logs = [];
  let binomial = 0;
  for (let up = 0; up <= d; up++) {
    const M = 2 * up - d;
    logs.push(binomial + beta * ((M * M) / (2 * d) + field * M));
    binomial += Math.log((d - up) / (up + 1));
  }
  const top = Math.max(...logs), p = logs.map((value) => Math.exp(value - top));
  const sum = p.reduce((a, b) => a + b);
  return p.map((value) => value / sum);
}

const average = (p, f) => p.reduce((sum, value, up) => sum + value * f((2 * up) / (p.length - 1) - 1), 0);

// ---- the magnet

function magnet(d, seed) {
  const spins = new Int8Array(d).fill(1), key = words(seed);
  const live = { M: d, t: 0, sweeps: 0, trace: [1], counts: null };
  /** The time that was spent at each M, from here on. */
  live.forget = () => { live.counts = new Float64Array(d + 1); };
  live.sweep = (count, beta, field) => {
    for (let k = 0; k < count; k++, live.sweeps++) {
      for (let j = 0; j < d; j++) {
        const [place, decision] = philox(...words(live.t++), 0, 0, key);
        const i = Math.floor((place * d) / WORD);
        const g = 1 / (1 + Math.exp((-2 * ((live.M - spins[i] + field * d) / d)) / (1 / beta)));
        const spin = g > 1 - 2 ** -33 || decision < Math.floor(WORD * g) ? 1 : -1;
        live.M += spin - spins[i];
        spins[i] = spin;
        live.counts[(live.M + d) / 2]++;
      }
      live.trace.push(live.M / d);
      if (live.trace.length > WINDOW + 1) live.trace.shift();
    }
  };
  live.forget();
  return live;
}

function sentence(beta, field, { minima, barrier }, d) {
  const at = (m) => fixed(m, 2);
  if (minima.length === 1) return field === 0 ? `β ≤ 1: one well, at m = 0; noise wins.` : `One well, at m = ${at(minima[0])}, on the side of the field.`;
  const wall = `the wall is ${fixed(beta * d * barrier, 1)} temperatures high for ${d} spins`;
  if (field === 0) return `β > 1: two wells of equal depth, at m = ±${at(minima[0])}; ${wall}.`;
  return `The deep well is at m = ${at(minima[0])}, a metastable one at m = ${at(minima[1])}; seen from there ${wall}.`;
}

// ---- what is seen

const EXACT = { fill: color(1), "fill-opacity": 0.45 }, LIVE = stroke(2, null, 1.5);

/** f(m) with its minima above the law of M at size d, over one axis. */
function landscapeView() {
  const hosts = [h("div"), h("div")];
  const above = chart(hosts[0], { alt: "free energy per spin against m, minima marked" }), below = chart(hosts[1], { alt: "law of m at this size, exact and of the live magnet" });
  const grid = Array.from({ length: 401 }, (_, i) => i / 200 - 1);
  const x = { range: [-1.04, 1.04], label: "$m=M/d$" };
  const draw = ({ f, minima }, p) => {
    const values = grid.map(f), low = Math.min(...values), high = Math.max(...values), room = 0.1 * (high - low);
    above.layout({ x, y: { range: [low - room, high + room], label: "$f(m)$" }, height: 230, left: 72 });
    const dots = minima.map((m, i) => h("circle", { cx: above.X(m), cy: above.Y(f(m)), r: 6, fill: color(Math.abs(f(m) - f(minima[0])) < 1e-12 ? 1 : "paper"), stroke: color(1), "stroke-width": 2 }));
    above.marks.replaceChildren(h("path", { d: pathThrough(grid.map(above.X), values.map(above.Y)), ...stroke("ink") }), ...dots);
    below.layout({ x, y: { range: [0, (minima.length > 1 ? 2.1 : 1.4) * Math.max(...p)], label: "$P(M)$" }, height: 210, left: 72 });
  };
  const move = ({ f }, p, { M, counts }) => {
    const d = p.length - 1, { X, Y } = below, m = (up) => (2 * up) / d - 1, half = 0.9 / d;
    const bar = (value, up) => (value > 1e-6 ? `M${X(m(up) - half)} ${Y(0)}V${Y(value)}H${X(m(up) + half)}V${Y(0)}z` : "");
    const total = counts.reduce((a, b) => a + b) || 1;
    below.marks.replaceChildren(
      h("path", { d: p.map(bar).join(""), ...EXACT }),
      h("path", { d: pathThrough(p.map((_, up) => X(m(up))), p.map((_, up) => Y(counts[up] / total))), ...LIVE }),
    );
    const stands = f(M / d);
    above.top.replaceChildren(h("circle", { cx: above.X(M / d), cy: above.Y(stands) - 7, r: 6, fill: color(2), stroke: color("paper"), "stroke-width": 1.5 }));
  };
  return { hosts, draw, move };
}

/** m of the live magnet against time. */
function traceView() {
  const host = h("div");
  const picture = chart(host, { alt: "magnetisation of the live magnet against time" });
  const draw = ({ minima }, { trace, sweeps }) => {
    const first = sweeps + 1 - trace.length;
    picture.layout({ x: { range: [first, first + WINDOW], label: "sweeps" }, y: { range: [-1.08, 1.08], label: "$m$" }, height: 230 });
    const { X, Y, box } = picture;
    picture.marks.replaceChildren(
      ...minima.map((m) => h("path", { d: `M${box.left} ${Y(m)}h${box.width}`, ...stroke(1, "5 4", 1.5) })),
      h("path", { d: pathThrough(trace.map((_, i) => X(first + i)), trace.map(Y)), ...LIVE }),
    );
  };
  return { host, draw };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  const params = { ...given };
  let live = null, shape = null, p = null;
  const { root, dispose } = mount(el, model, () => { if (shape) { wells.draw(shape, p); show(); } });
  const wells = landscapeView(), trace = traceView(), status = spoken();
  const numbers = readings({ star: "$m^*$", abs: "$\\langle|M|\\rangle/d$ exact", mean: "$\\langle M\\rangle/d$ exact", liveMean: "live mean" });

  function show() {
    wells.move(shape, p, live);
    trace.draw(shape, live);
    const total = live.counts.reduce((a, b) => a + b);
    const mean = total ? live.counts.reduce((sum, n, up) => sum + n * (2 * up - params.d), 0) / total / params.d : live.M / params.d;
    numbers.set({ liveMean: fixed(mean, 3) });
    Object.assign(root.dataset, { liveM: live.M, sweeps: live.sweeps });
  }
  function compute() {
    const { beta, field, d } = params;
    shape = landscape(beta, field);
    p = sectors(d, beta, field);
    const meanAbs = average(p, Math.abs), mean = average(p, (m) => m);
    status.say(sentence(beta, field, shape, d));
    numbers.set({ star: fixed(shape.minima[0], 4), abs: fixed(meanAbs, 4), mean: fixed(mean, 4) });
    Object.assign(root.dataset, { beta, field, d, mStar: shape.minima[0], minima: JSON.stringify(shape.minima), meanAbs, mean, barrier: shape.barrier });
    wells.draw(shape, p);
    show();
  }
  const begin = () => { live = magnet(params.d, params.seed); live.sweep(WINDOW, params.beta, params.field); };
  const later = oncePerFrame(compute);
  const run = animation(root, () => { live.sweep(reducedMotion() ? 100 : 3, params.beta, params.field); show(); }, (running) => { runButton.textContent = running ? "Pause" : "Run"; });
  const runButton = button("Run", run.toggle, true);
  // The magnet goes on under the new law; the time that it spent under the old one is forgotten.
  const change = (name) => (value) => { params[name] = value; live.forget(); later(); };
  const beta = slider({ label: "$\\beta$", min: 0.2, max: 2.5, step: 0.01, value: params.beta, show: (b) => fixed(b), change: change("beta") });
  const field = slider({ label: "field $h$", min: -0.5, max: 0.5, step: 0.01, value: params.field, show: (x) => fixed(x), change: change("field") });
  const sizes = [...new Set([...SIZES, given.d])].sort((a, b) => a - b);
  const size = choice("spins", Object.fromEntries(sizes.map((d) => [d, String(d)])), String(params.d), (d) => { params.d = Number(d); begin(); compute(); });
  const reset = button("Reset", () => {
    run.stop();
    Object.assign(params, given);
    for (const [control, value] of [[beta, params.beta], [field, params.field], [size, String(params.d)]]) control.set(value);
    begin();
    compute();
  });
  const key = legend([
    { label: "exact; dots and dashes: minima of $f$", mark: h("rect", { x: 1, y: 2, width: 28, height: 10, ...EXACT }) },
    { label: "live magnet", mark: h("path", { d: "M1 9l5 -4l5 3l5 -4l5 5l8 -3", ...LIVE }) },
  ]);
  const right = h("div", { class: "pgx-panel" }, trace.host, key, numbers.el, h("div", { class: "pgx-bar" }, beta.el, field.el, size.el, runButton, reset));
  root.append(h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, ...wells.hosts), right), status.el);
  begin();
  compute();
  return () => { run.dispose(); dispose(); };
}

export default { render };
