// The levels of the score of a linear manifold a = F w of m dimensions in ℝ^d at the noise σ² = e^{2t} − 1, ρ = m/d:
//   1 (d − m times) and σ²/(σ² + γ_k), γ_k the eigenvalues of FᵀF, which come from Python; F_ij ~ N(0, 1/d). For d → ∞ the γ have the
//   density √((γ₊ − γ)(γ − γ₋))/(2πργ), γ± = (1 ± √ρ)², so that at y = σ²/(σ² + γ) the levels have the density p(γ) σ²/y²,
// the gap above them is γ₋/(γ₋ + σ²), and the phases change at t± = ½ log(1 + γ±). The same as physgen.memorization.geometry.

const DEFAULTS = { sigma2: 0.5, manifold: 0 };
const LOG = { min: -3, max: 2, step: 0.02 };
const BINS = 16;
const PHASES = {
  trivial: "the noise hides every direction of the manifold.",
  coverage: "wide directions have emerged, narrow ones have not: the score learns how the data lie in the manifold.",
  consolidation: "all levels of the manifold go to zero alike: the score projects onto it.",
};

// ---- what is computed

const edges = (rho) => ({ low: (1 - Math.sqrt(rho)) ** 2, high: (1 + Math.sqrt(rho)) ** 2 });
const level = (sigma2, gamma) => sigma2 / (sigma2 + gamma);

/** Marchenko and Pastur's density of γ, seen in the level y. */
function density(y, sigma2, rho) {
  if (!(y > 0 && y < 1)) return 0;
  const gamma = sigma2 * (1 / y - 1), { low, high } = edges(rho);
  const inside = (high - gamma) * (gamma - low);
  return inside > 0 ? (Math.sqrt(inside) / (2 * Math.PI * rho * gamma)) * (sigma2 / (y * y)) : 0;
}

/** A manifold of the given γ: its ρ, the edges, and the times between the phases. */
function manifold(gamma, d) {
  const rho = gamma.length / d, { low, high } = edges(rho);
  return { gamma: [...gamma].sort((a, b) => b - a), d, m: gamma.length, rho, low, high, coverage: 0.5 * Math.log1p(high), consolidation: 0.5 * Math.log1p(low) };
}

/** The levels along the manifold, ascending; their gap to one; how many lie below the largest gap; the softly counted dimension. */
function measured({ gamma, m }, sigma2) {
  const levels = gamma.map((g) => level(sigma2, g)), all = [...levels, 1];
  const gaps = levels.map((y, k) => all[k + 1] - y);
  const dimension = 1 + gaps.reduce((best, gap, k) => (gap > gaps[best] ? k : best), 0);
  return { levels, gap: gaps[m - 1], dimension, soft: levels.reduce((sum, y) => sum + 1 - y, 0) };
}

const phaseOf = ({ low, high }, sigma2) => (sigma2 > high ? "trivial" : sigma2 > low ? "coverage" : "consolidation");

function sentence({ m, d }, phase, { dimension }) {
  const seen = `The largest gap counts ${dimension} of ${d} dimensions${dimension === m ? "" : `; the manifold has ${m}`}.`;
  return `${phase[0].toUpperCase()}${phase.slice(1)}: ${PHASES[phase]} ${seen}`;
}

// ---- what is seen

const THEORY = stroke(1), ACROSS = stroke(3, "7 3", 2.5), GAP = stroke(4, null, 1.5), EDGE = stroke("muted", "2 3", 1.5), NOW = stroke(4, null, 1.5);
// Text over lines stands on its own ground.
const OVER = { stroke: color("paper"), "stroke-width": 4, "paint-order": "stroke" };
const BAR = { fill: color(2), "fill-opacity": 0.55 }, TICK = { ...stroke(2, null, 1), "stroke-opacity": 0.8 };

/** The spectrum at one noise: bars and ticks for the drawn manifold, a line for d → ∞, the gap as an arrow. */
function spectrumView() {
  const host = h("div");
  const picture = chart(host, { alt: "density of the levels along the manifold, drawn and in theory" });
  const draw = (M, sigma2, { levels, gap }) => {
    const [from, to] = [level(sigma2, M.high), level(sigma2, M.low)];
    // Evenly spaced in the angle of the semicircle, so that both edges are smooth.
    const ys = Array.from({ length: 161 }, (_, i) => level(sigma2, (M.high + M.low) / 2 + ((M.high - M.low) / 2) * Math.cos((i * Math.PI) / 160)));
    const values = ys.map((y) => density(y, sigma2, M.rho));
    const width = (to - from) / (BINS - 2), start = from - width;
    const counts = Array(BINS).fill(0);
    for (const y of levels) counts[Math.min(BINS - 1, Math.max(0, Math.floor((y - start) / width)))] += 1 / (M.m * width);
    const top = 1.15 * Math.max(...values, ...counts);
    picture.layout({ x: { range: [0, 1], label: "level $y$" }, y: { range: [0, top], label: "density of levels" }, height: 300, left: 66 });
    const { X, Y, box } = picture, base = Y(0);
    const bars = counts.map((c, i) => (c ? `M${X(Math.max(0, start + i * width))} ${base}V${Y(c)}H${X(start + (i + 1) * width)}V${base}z` : "")).join("");
    const ticks = levels.map((y) => `M${X(y).toFixed(1)} ${base}v7`).join("");
    const middle = box.top + 0.36 * box.height, end = X(1 - gap);
    const arrow = X(1) - end > 14 ? `M${end} ${middle}H${X(1)}M${end + 7} ${middle - 4}L${end} ${middle}L${end + 7} ${middle + 4}M${X(1) - 7} ${middle - 4}L${X(1)} ${middle}L${X(1) - 7} ${middle + 4}` : "";
    picture.marks.replaceChildren(
      h("path", { d: bars, ...BAR }),
      h("path", { d: ticks, ...TICK }),
      h("path", { d: [from, to].map((y) => `M${X(y)} ${box.top}V${base}`).join(""), ...EDGE }),
      h("path", { d: pathThrough(ys.map(X), values.map(Y)), ...THEORY }),
      h("path", { d: `M${X(1)} ${base}V${box.top + 0.12 * box.height}`, ...ACROSS }),
      h("path", { d: arrow, ...GAP }),
    );
    const name = h("text", { x: X(1) - 6, y: box.top + 0.12 * box.height + 4, "text-anchor": "end", ...OVER }, `${M.d - M.m} levels at 1`);
    const wide = X(1) - end > 60;
    picture.top.replaceChildren(name, ...(wide ? [h("text", { x: (end + X(1)) / 2, y: middle - 6, "text-anchor": "middle" }, "gap")] : []));
  };
  return { host, draw };
}

/** The band of levels at all noises, with the phases and the noise of the moment. */
function phasesView() {
  const host = h("div");
  const picture = chart(host, { alt: "band of the levels against the noise, with the three phases" });
  const grid = Array.from({ length: 101 }, (_, i) => LOG.min + (i * (LOG.max - LOG.min)) / 100);
  const draw = (M, sigma2, { levels }) => {
    const x = { range: [LOG.max, LOG.min], label: "$\\log_{10} \\sigma^2$, from noise to data" };
    picture.layout({ x, y: { range: [0, 1.32], label: "level" }, height: 260, left: 60, grid: false });
    const { X, Y, box } = picture, [low, high] = [M.low, M.high].map(Math.log10), now = X(Math.log10(sigma2));
    const edge = (gamma) => grid.map((v) => Y(level(10 ** v, gamma)));
    const xs = grid.map(X), band = `${pathThrough(xs, edge(M.high))}${pathThrough([...xs].reverse(), edge(M.low).reverse()).replace("M", "L")}z`;
    picture.marks.replaceChildren(
      h("path", { d: band, fill: color(1), "fill-opacity": 0.25 }),
      h("path", { d: `M${box.left} ${Y(1)}h${box.width}`, ...ACROSS }),
      h("path", { d: [low, high].map((v) => `M${X(v)} ${Y(1.18)}V${Y(0)}`).join(""), ...EDGE }),
      h("path", { d: `M${now} ${Y(0)}V${Y(1.06)}`, ...NOW }),
      h("path", { d: levels.map((y) => `M${now - 5} ${Y(y).toFixed(1)}h10`).join(""), ...TICK }),
    );
    const current = phaseOf(M, sigma2), left = box.left + 4, right = box.left + box.width - 2;
    const places = { trivial: [left, 1.1, "start"], coverage: [(X(high) + X(low)) / 2, 1.22, "middle"], consolidation: [right, 1.1, "end"] };
    const label = ([name, [at, height, anchor]]) => h("text", { x: at, y: Y(height), "text-anchor": anchor, "font-weight": name === current ? 700 : 400, ...OVER }, name);
    const gammas = [["$\\gamma_+$", high], ["$\\gamma_-$", low]].map(([text, v]) => h("text", { x: X(v) + 4, y: Y(0.03) }, ...texSvg(text)));
    picture.top.replaceChildren(...Object.entries(places).map(label), ...gammas);
  };
  return { host, draw };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  const manifolds = given.gammas.map((gamma) => manifold(gamma, given.d));
  let sigma2 = given.sigma2, chosen = given.manifold;
  const { root, dispose } = mount(el, model, () => draw());
  const spectrum = spectrumView(), phases = phasesView(), status = spoken();
  const numbers = readings({ t: "$t$", gap: "gap", theory: "in theory", soft: "$\\Sigma(1-y)$", m: "$m$" });

  function draw() {
    const M = manifolds[chosen], found = measured(M, sigma2), phase = phaseOf(M, sigma2), t = 0.5 * Math.log1p(sigma2), theory = M.low / (M.low + sigma2);
    spectrum.draw(M, sigma2, found);
    phases.draw(M, sigma2, found);
    status.say(sentence(M, phase, found));
    numbers.set({ t: fixed(t, 3), gap: fixed(found.gap, 4), theory: fixed(theory, 4), soft: fixed(found.soft, 1), m: String(M.m) });
    const places = Array.from({ length: 11 }, (_, i) => level(sigma2, M.high) + ((level(sigma2, M.low) - level(sigma2, M.high)) * i) / 10);
    Object.assign(root.dataset, { t, sigma2, rho: M.rho, m: M.m, phase, gap: found.gap, gapTheory: theory, dimension: found.dimension, soft: found.soft });
    Object.assign(root.dataset, { coverage: M.coverage, consolidation: M.consolidation, lowest: found.levels[0], density: JSON.stringify(places.map((y) => [y, density(y, sigma2, M.rho)])) });
  }
  const later = oncePerFrame(draw);
  const text = (v) => fixed(10 ** v, v < -1 ? 4 : v < 0 ? 3 : v < 1 ? 2 : 1);
  const noise = slider({ label: "noise $\\sigma^2$", ...LOG, value: Math.log10(sigma2), show: text, change: (v) => { sigma2 = 10 ** v; later(); } });
  const names = Object.fromEntries(manifolds.map((M, k) => [k, fixed(M.rho, M.rho < 0.1 ? 3 : 2)]));
  const ratio = choice("ρ = m/d", names, String(chosen), (k) => { chosen = Number(k); later(); });
  const reset = button("Reset", () => {
    sigma2 = given.sigma2;
    chosen = given.manifold;
    noise.set(Math.log10(sigma2));
    ratio.set(String(chosen));
    later();
  });
  const swatch = (style) => h("path", { d: "M1 7h28", ...style });
  const key = legend([
    { label: "levels of one manifold", mark: h("rect", { x: 4, y: 2, width: 22, height: 10, ...BAR }) },
    { label: "Marchenko and Pastur", mark: swatch(THEORY) },
    { label: "its edges", mark: swatch(EDGE) },
    { label: "across the manifold", mark: swatch(ACROSS) },
  ]);
  root.append(
    h("div", { class: "pgx-bar" }, noise.el, ratio.el, reset),
    h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, spectrum.host, key), h("div", { class: "pgx-panel" }, phases.host, numbers.el)),
    status.el,
  );
  draw();
  return () => { dispose(); };
}

export default { render };
